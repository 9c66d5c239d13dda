//! The guest's files: a base that is made once for each kernel and agent, and what a single start adds to it.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::archive::Writer;
use crate::cache::Cache;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::guest::PLAN;
use crate::guest::plan::Plan;
use crate::kernel::{self, Kernel};
use crate::program::{Keep, Luggage, Packing, slim};

/// Modules of the lab; what they depend on comes with them.
const MODULES: [&str; 24] = [
    "cxl_acpi",
    "cxl_pci",
    "cxl_port",
    "cxl_mem",
    "cxl_pmem",
    "dax_cxl",
    "device_dax",
    "kmem",
    "dax_hmem",
    "dax_pmem",
    "nd_pmem",
    "nd_btt",
    "libnvdimm",
    "ext4",
    "xfs",
    "hwpoison_inject",
    "mce_inject",
    "einj",
    "uio",
    "uio_pci_generic",
    "virtio_console",
    "virtio_pci",
    "zram",
    "loop",
];
/// What `/init` does: everything else is the agent's. It stays, so that the agent's end is no panic. What comes from the host's
/// `/tmp` moves to a file system that has a size.
const INIT: &str = "\
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mkdir -p /dev/shm /dev/pts
/bin/busybox mount -t tmpfs tmpfs /dev/shm
/bin/busybox mount -t devpts devpts /dev/pts
/bin/busybox mount -t tmpfs tmpfs /mnt
/bin/busybox cp -a /tmp/. /mnt
/bin/busybox rm -rf /tmp/*
/bin/busybox mount -o move /mnt /tmp
/bin/busybox chmod 1777 /tmp
/bin/busybox mount -t debugfs debugfs /sys/kernel/debug
/bin/busybox mount -t tracefs tracefs /sys/kernel/tracing
/bin/busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
/bin/busybox --install -s /usr/bin
/bin/busybox grep -q virtio_console /lab/modules && /bin/busybox modprobe virtio_console
/lab/agent qemu guest agent
echo \"the agent ended with code $?\"
/bin/busybox poweroff -f
";

/// What a base is made of.
#[derive(Clone, Debug)]
pub struct Base<'a> {
    /// The guest's kernel.
    pub kernel: &'a Kernel,
    /// A static busybox.
    pub busybox: &'a Path,
    /// The program that is the agent when it is started with `qemu guest agent`: `tierctl` itself.
    pub agent: &'a Path,
}

impl Base<'_> {
    /// The archive, made if it is not in the cache.
    ///
    /// # Errors
    /// Those of the file system; what lacks.
    pub fn archive(&self, cache: &Cache) -> Result<PathBuf> {
        let made_of = (INIT, MODULES, env!("CARGO_PKG_VERSION"), &self.kernel.modules);
        let stamp = stamp([self.busybox, self.agent, &self.kernel.image])?;
        let mut hasher = DefaultHasher::new();
        (made_of, stamp).hash(&mut hasher);
        let name = format!("images/{}-{:016x}.cpio", self.kernel.version, hasher.finish());
        let made = cache.made(&name, || self.make())?;
        Ok(cache.touch("images", made))
    }

    fn make(&self) -> Result<Vec<u8>> {
        let failed = "cannot pack the guest's files";
        let mut archive = Writer::new(Vec::new());
        for folder in
            ["dev", "proc", "sys", "tmp", "mnt", "run", "etc", "lab", "out", "usr/bin", "usr/sbin", "usr/lib64"]
        {
            archive.folder(folder).context(failed)?;
        }
        for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
            archive.link(link, target).context(failed)?;
        }
        let read = |path: &Path| fs::read(path).at(path);
        archive.file("init", 0o755, INIT.as_bytes()).context(failed)?;
        archive.file("usr/bin/busybox", 0o755, &read(self.busybox)?).context(failed)?;
        archive.link("usr/bin/sh", "busybox").context(failed)?;
        archive.file("lab/agent", 0o755, &slim(read(self.agent)?, Keep::Nothing)).context(failed)?;
        archive.link("usr/bin/tierctl", "/lab/agent").context(failed)?;
        for (name, text) in [
            ("passwd", "root:x:0:0:root:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
            ("group", "root:x:0:\nnogroup:x:65534:\n"),
            ("hosts", "127.0.0.1 localhost\n"),
        ] {
            archive.file(&format!("etc/{name}"), 0o644, text.as_bytes()).context(failed)?;
        }
        self.modules(&mut archive)?;
        let mut bytes = archive.finish().context(failed)?;
        bytes.extend(self.libraries()?);
        Ok(bytes)
    }

    fn modules(&self, archive: &mut Writer<Vec<u8>>) -> Result<()> {
        let failed = "cannot pack the guest's modules";
        let modules = kernel::closure(&self.kernel.modules, &MODULES)?;
        let folder = format!("usr/lib/modules/{}", self.kernel.version);
        let (mut list, mut dependencies) = (String::new(), String::new());
        for module in &modules {
            archive.file(&format!("{folder}/{}.ko", module.name), 0o644, &module.contents).context(failed)?;
            list.push_str(&format!("{}\n", module.name));
            let mut all = Vec::new();
            below(&module.name, &modules, &mut all);
            let all: String = all.iter().map(|name| format!(" {name}.ko")).collect();
            dependencies.push_str(&format!("{}.ko:{all}\n", module.name));
        }
        archive.file("lab/modules", 0o644, list.as_bytes()).context(failed)?;
        archive.file(&format!("{folder}/modules.dep"), 0o644, dependencies.as_bytes()).context(failed)
    }

    /// The agent's libraries, and the tool that makes file systems where the host has it.
    fn libraries(&self) -> Result<Vec<u8>> {
        let mut luggage = Luggage::new(std::env::var("LD_LIBRARY_PATH").ok().as_deref());
        luggage.program(self.agent)?;
        let tool = Path::new("/usr/sbin/mke2fs");
        if tool.exists() {
            luggage.program(tool)?;
        }
        luggage.complete()?;
        let mut packing = luggage.packing();
        packing.files.remove(&std::path::absolute(self.agent).at(self.agent)?);
        packing.write(Vec::new(), &mut BTreeSet::new())
    }
}

/// A number that changes when one of the files does.
///
/// # Errors
/// Those of the file system.
pub fn stamp<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        let data = fs::metadata(file).at(file)?;
        (file, data.len(), data.modified().ok()).hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// All that a module needs, the nearest first, as `modules.dep` has it.
fn below(name: &str, modules: &[kernel::Module], all: &mut Vec<String>) {
    let Some(module) = modules.iter().find(|module| module.name == name) else { return };
    for other in &module.depends {
        if !all.contains(other) && modules.iter().any(|module| &module.name == other) {
            all.push(other.clone());
            below(other, modules, all);
        }
    }
}

/// What one start adds, as an archive: the plan and the program's files.
///
/// # Errors
/// Those of the file system.
pub fn addition(plan: &Plan, packing: &Packing) -> Result<Vec<u8>> {
    let mut archive = Writer::new(Vec::new());
    let text = serde_json::to_vec(plan).map_err(|e| Error::new(ErrorKind::Failed, e.to_string()))?;
    archive.file(PLAN, 0o644, &text).context("cannot pack the plan")?;
    let bytes = archive.finish().context("cannot pack the plan")?;
    packing.write(bytes, &mut BTreeSet::new())
}

#[cfg(test)]
mod tests {
    use super::below;
    use crate::kernel::Module;

    #[test]
    fn dependencies_are_listed_to_the_bottom() {
        let module = |name: &str, depends: &[&str]| Module {
            name: name.into(),
            depends: depends.iter().map(|&name| name.into()).collect(),
            contents: Vec::new(),
        };
        let modules = [module("c", &[]), module("b", &["c", "absent"]), module("a", &["b"])];
        let mut all = Vec::new();
        below("a", &modules, &mut all);
        assert_eq!(all, ["b", "c"]);
    }
}
