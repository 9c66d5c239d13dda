//! Taking the kernel proper out of `vmlinuz`: QEMU starts an uncompressed one through its PVH entry, which saves the guest
//! the unpacking (about five seconds where every instruction is emulated).

use std::io::{self, Read};

use object::Endianness;
use object::elf::{FileHeader64, PT_NOTE};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::error::{Error, ErrorKind, Result};

const ELF: &[u8] = b"\x7fELF";
/// The note with the PVH entry point (Xen, `XEN_ELFNOTE_PHYS32_ENTRY`).
const PVH_NOTE: u32 = 18;

/// The `vmlinux` in `bytes`, which are a `vmlinuz` or a `vmlinux` already.
///
/// # Errors
/// [`ErrorKind::BadInput`] if there is none in it, or one that QEMU cannot boot.
pub fn extract(bytes: &[u8]) -> Result<Vec<u8>> {
    let elf = if bytes.starts_with(ELF) { bytes.to_vec() } else { payload(bytes)? };
    if !has_pvh_entry(&elf) {
        let why = "this kernel has no PVH entry point (CONFIG_PVH), so QEMU cannot boot it directly";
        return Err(Error::new(ErrorKind::BadInput, why));
    }
    Ok(elf)
}

fn payload(bytes: &[u8]) -> Result<Vec<u8>> {
    type Unpack = fn(&[u8]) -> io::Result<Vec<u8>>;
    let methods: [(&[u8], Unpack); 3] =
        [(b"\x28\xb5\x2f\xfd", unzstd), (b"\xfd7zXZ\x00", unxz), (b"\x1f\x8b\x08", ungzip)];
    for (magic, unpack) in methods {
        let places = bytes.windows(magic.len()).enumerate().filter(|(_, window)| *window == magic);
        for (at, _) in places {
            if let Ok(elf) = unpack(&bytes[at..])
                && elf.starts_with(ELF)
            {
                return Ok(elf);
            }
        }
    }
    Err(Error::new(ErrorKind::BadInput, "no kernel packed with zstd, xz or gzip is in this image"))
}

/// Unpacks the first zstd frame; what follows it is not looked at.
pub(super) fn unzstd(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(bytes).map_err(io::Error::other)?;
    decoder.read_to_end(&mut out)?;
    Ok(out)
}

fn unxz(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    lzma_rust2::XzReader::new(bytes, false).read_to_end(&mut out)?;
    Ok(out)
}

fn ungzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out)?;
    Ok(out)
}

fn has_pvh_entry(elf: &[u8]) -> bool {
    let Ok(header) = FileHeader64::<Endianness>::parse(elf) else { return false };
    let Ok(endian) = header.endian() else { return false };
    let headers = header.program_headers(endian, elf).unwrap_or_default();
    headers.iter().filter(|h| h.p_type(endian) == PT_NOTE).any(|h| {
        let Ok(Some(mut notes)) = h.notes(endian, elf) else { return false };
        std::iter::from_fn(|| notes.next().ok().flatten())
            .any(|note| note.name() == b"Xen" && note.n_type(endian).0 == PVH_NOTE)
    })
}

#[cfg(test)]
mod tests {
    use super::extract;
    use crate::ErrorKind;

    #[test]
    fn what_holds_no_kernel_is_refused() {
        for bytes in [&b""[..], b"MZ and nothing else", b"\x28\xb5\x2f\xfd broken", b"\x7fELF but no kernel"] {
            assert_eq!(extract(bytes).unwrap_err().kind(), ErrorKind::BadInput);
        }
    }
}
