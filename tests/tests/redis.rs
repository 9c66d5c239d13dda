//! redis-server under the preload: every value is asked back, and a background save (a fork under load) holds exactly
//! what was there when it began.

use std::path::Path;
use std::time::Duration;

use tiermem_tests::resp::{Client, Reply};
use tiermem_tests::{Run, Running, Tiering, count, find, in_every_setup, scratch, wait_until};

/// Keys of plain values; the other kinds have a hundredth each.
const KEYS: u64 = 60_000;
const BATCH: u64 = 500;

struct Server {
    process: Running,
    client: Client,
}

fn start(tiering: Option<&Tiering>, folder: &Path) -> Option<Server> {
    let program = find("redis-server")?;
    let socket = folder.join("socket");
    let mut run = Run::new(program)
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--enable-debug-command", "yes"])
        .args(["--dbfilename", "dump.rdb", "--activerehashing", "yes", "--unixsocket"])
        .arg(&socket)
        .arg("--dir")
        .arg(folder)
        .limit(240);
    if let Some(tiering) = tiering {
        run = run.under(tiering);
    }
    let _ = std::fs::remove_file(&socket);
    let mut process = run.start();
    process.hear_containing("eady to accept connections");
    let client = Client::connect(&socket).expect("the server says that it is ready");
    Some(Server { process, client })
}

impl Server {
    fn digest(&mut self) -> String {
        self.client.ask_text("DEBUG DIGEST")
    }

    fn stop(mut self) {
        self.client.queue(&[b"SHUTDOWN", b"NOSAVE"]);
        let _ = self.client.flush(); // it hangs up instead of answering
        self.process.finish().succeeded();
    }

    fn save_in_background(&mut self) {
        let reply = self.client.ask_text("BGSAVE");
        assert!(reply.contains("started"), "{reply}");
    }

    fn wait_for_save(&mut self) {
        let client = &mut self.client;
        wait_until("the background save", Duration::from_secs(120), || {
            client.ask_text("INFO persistence").contains("rdb_bgsave_in_progress:0")
        });
        let info = client.ask_text("INFO persistence");
        assert!(info.contains("rdb_last_bgsave_status:ok"), "{info}");
    }
}

/// The value of a key in a generation: length and contents follow from both.
fn value(key: u64, generation: u64) -> Vec<u8> {
    let length = if key.is_multiple_of(500) { 60_000 } else { 16 + (key * 7919 + generation * 104_729) % 1_500 };
    format!("{key}:{generation};").bytes().cycle().take(usize::try_from(length).expect("small")).collect()
}

fn write_values(client: &mut Client, generation: u64, keys: impl Iterator<Item = u64>) {
    let keys: Vec<u64> = keys.collect();
    for batch in keys.chunks(usize::try_from(BATCH).expect("small")) {
        for &key in batch {
            client.queue(&[b"SET", format!("key:{key}").as_bytes(), &value(key, generation)]);
        }
        let replies = client.flush().expect("the server answers");
        assert!(
            replies.iter().all(|reply| *reply == Reply::Line("OK".to_owned())),
            "SET failed: {:?}",
            replies.first()
        );
    }
}

fn write_collections(client: &mut Client) {
    for key in 0..KEYS / 100 {
        let name = |kind: &str| format!("{kind}:{key}").into_bytes();
        for member in 0..20_u64 {
            let text = format!("member-{key}-{member}").repeat(1 + usize::try_from(member).expect("small"));
            let score = (member * 31 % 17).to_string();
            client.queue(&[b"HSET", &name("hash"), score.as_bytes(), text.as_bytes()]);
            client.queue(&[b"RPUSH", &name("list"), text.as_bytes()]);
            client.queue(&[b"SADD", &name("set"), text.as_bytes()]);
            client.queue(&[b"ZADD", &name("sorted"), score.as_bytes(), text.as_bytes()]);
        }
        let replies = client.flush().expect("the server answers");
        assert!(!replies.iter().any(|reply| matches!(reply, Reply::Line(text) if text.starts_with('-'))));
    }
}

/// Every plain value is what was written last.
fn check_values(client: &mut Client, keys: u64, generation_of: impl Fn(u64) -> Option<u64>) {
    for start in (0..keys).step_by(usize::try_from(BATCH).expect("small")) {
        let batch = start..(start + BATCH).min(keys);
        for key in batch.clone() {
            client.queue(&[b"GET", format!("key:{key}").as_bytes()]);
        }
        for (key, reply) in batch.zip(client.flush().expect("the server answers")) {
            let wanted = generation_of(key).map_or(Reply::Nil, |generation| Reply::Bulk(value(key, generation)));
            assert!(reply == wanted, "key {key}: {reply:?}, not {wanted:?}");
        }
    }
}

fn every_value_and_a_background_save(tiering: &Tiering) {
    let keys = count("KEYS", KEYS);
    let folder = scratch();
    let Some(mut server) = start(Some(tiering), folder.path()) else { return };
    write_values(&mut server.client, 1, 0..keys);
    write_collections(&mut server.client);
    // Overwrite and delete, so that the heap has holes.
    write_values(&mut server.client, 2, (0..keys).filter(|key| key.is_multiple_of(3)));
    for key in (0..keys).filter(|key| key.is_multiple_of(7)) {
        server.client.queue(&[b"DEL", format!("key:{key}").as_bytes()]);
    }
    server.client.flush().expect("the server answers");
    let generation_before = |key: u64| (!key.is_multiple_of(7)).then_some(if key.is_multiple_of(3) { 2 } else { 1 });
    check_values(&mut server.client, keys, generation_before);

    let before = server.digest();
    server.save_in_background();
    write_values(&mut server.client, 3, (0..keys).filter(|key| key.is_multiple_of(2))); // while the child writes the old ones
    server.wait_for_save();
    let after = server.digest();
    assert_ne!(before, after, "the writes during the save should have changed the data");
    check_values(&mut server.client, keys, |key| if key.is_multiple_of(2) { Some(3) } else { generation_before(key) });
    server.stop();

    // A server without preload must find in the file exactly what the data was when the save began.
    let mut bare = start(None, folder.path()).expect("redis-server was there before");
    assert_eq!(bare.digest(), before, "the saved file differs from the data at the time of the fork");
    check_values(&mut bare.client, keys, generation_before);
    bare.stop();

    // And the server under the preload loads the file too.
    let mut again = start(Some(tiering), folder.path()).expect("redis-server was there before");
    assert_eq!(again.digest(), before, "the file was loaded wrongly");
    again.stop();
}
in_every_setup!(values_and_background_save, every_value_and_a_background_save);
