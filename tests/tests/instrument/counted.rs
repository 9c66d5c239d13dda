//! `counted MODE N`: does N of one thing, and what each mode does besides does not depend on N.

use std::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_setzero_si256, _mm256_testz_si256, _mm256_xor_si256};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

#[repr(align(64))]
struct Block([u8; 4096]);

macro_rules! accesses {
    ($load:ident, $store:ident, $type:ty) => {
        #[inline(never)]
        fn $load(at: *const u8, n: usize) -> u64 {
            let mut all: $type = 0;
            for i in 0..n {
                all ^= unsafe { at.add(i % 128 * size_of::<$type>()).cast::<$type>().read_volatile() };
            }
            all as u64
        }
        #[inline(never)]
        fn $store(at: *mut u8, n: usize) -> u64 {
            for i in 0..n {
                unsafe { at.add(i % 128 * size_of::<$type>()).cast::<$type>().write_volatile(i as $type) };
            }
            0
        }
    };
}
accesses!(load1, store1, u8);
accesses!(load2, store2, u16);
accesses!(load4, store4, u32);
accesses!(load8, store8, u64);
accesses!(load16, store16, u128);

/// Each in two lines.
#[inline(never)]
fn crossing(at: *const u8, n: usize) -> u64 {
    (0..n).fold(0, |all, i| all ^ unsafe { at.add(60 + i % 32 * 64).cast::<u64>().read_unaligned_volatile() })
}

trait Unaligned {
    unsafe fn read_unaligned_volatile(self) -> u64;
}

#[repr(C, packed)]
struct Packed(u64);

impl Unaligned for *const u64 {
    unsafe fn read_unaligned_volatile(self) -> u64 {
        unsafe { self.cast::<Packed>().read_volatile().0 }
    }
}

/// A load and a store of an array on the stack.
#[inline(never)]
fn stack(n: usize) -> u64 {
    let mut array = [0_u64; 64];
    let at = array.as_mut_ptr();
    for i in 0..n {
        unsafe { at.add(i % 64).write_volatile(at.add((i + 1) % 64).read_volatile() + 1) };
    }
    0
}

/// Two loads and a store.
#[inline(never)]
fn mixed(at: *mut u8, n: usize) -> u64 {
    let words = at.cast::<u64>();
    for i in 0..n {
        let sum = unsafe { words.add(i % 64).read_volatile() + words.add(i % 48).read_volatile() };
        unsafe { words.add(i % 32).write_volatile(sum) };
    }
    0
}

macro_rules! each_length {
    ($($name:ident($at:ident, $to:ident, $len:ident) $step:expr;)*) => {$(
        #[inline(never)]
        fn $name($at: *mut u8, $to: *mut u8, n: usize) -> u64 {
            for _ in 0..n {
                for $len in 1..=64 {
                    unsafe { $step };
                }
            }
            0
        }
    )*};
}
each_length! {
    copy(at, to, len) to.copy_from_nonoverlapping(at, len);
    shift(at, _to, len) at.add(8).copy_from(at, len);
    fill(at, _to, len) at.write_bytes(1, len);
    compare(at, to, len) assert!(std::slice::from_raw_parts(at, len) == std::slice::from_raw_parts(to, len));
}

#[inline(never)]
#[target_feature(enable = "avx2")]
fn vector(at: *const u8, n: usize) -> u64 {
    let mut all: __m256i = _mm256_setzero_si256();
    for i in 0..n {
        all = _mm256_xor_si256(all, unsafe { _mm256_loadu_si256(at.add(i % 64 * 32).cast()) });
    }
    _mm256_testz_si256(all, all) as u64
}

/// A chain through `n` nodes of a line each, out of order.
fn chase(n: usize) -> u64 {
    let step = n / 3 * 2 + 1;
    let mut nodes: Vec<[usize; 8]> = vec![[0; 8]; n];
    let base = nodes.as_ptr() as usize;
    let mut at = 0;
    for _ in 0..n {
        let next = (at + step) % n;
        nodes[at][0] = base + next * 64;
        at = next;
    }
    black_box(&mut nodes);
    let mut here = base;
    for _ in 0..4 * n {
        here = unsafe { *(here as *const usize) };
    }
    (here - base) as u64
}

#[inline(never)]
fn blocks(n: usize) -> u64 {
    let all: Vec<Box<[u8; 256]>> = (0..n).map(|i| black_box(Box::new([i as u8; 256]))).collect();
    all.len() as u64
}

/// Eight threads, each of which reads `n` lines of its own.
fn streams(n: usize) -> u64 {
    let stream = move || {
        let words = black_box(vec![1_u64; n * 8]);
        (0..n).map(|line| unsafe { words.as_ptr().add(line * 8).read_volatile() }).sum::<u64>()
    };
    let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(stream)).collect();
    threads.into_iter().map(|thread| thread.join().expect("a sum")).sum()
}

/// Threads of this process that are called so.
fn threads_called(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("a list of threads");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|comm| comm.trim_end() == name).count()
}

/// How many threads the engine has before and after much was done, as the digits of a number.
fn engine_threads(n: usize) -> i32 {
    let before = threads_called("tiermem-engine");
    black_box(chase(n));
    (10 * before + threads_called("tiermem-engine")) as i32
}

/// From now on the process can map so many bytes more.
fn leave_room(bytes: u64) {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("how large this process is");
    let pages: u64 = statm.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
    let limit = pages * 4096 + bytes;
    const ADDRESS_SPACE: i32 = 9;
    assert_eq!(unsafe { setrlimit(ADDRESS_SPACE, &[limit, limit]) }, 0);
}

/// Blocks of many sizes, read out of order: how many lines they share depends on where each of them lies.
fn heap(n: usize) -> u64 {
    let blocks: Vec<Vec<u8>> = (0..n).map(|i| vec![i as u8; 24 + i * 37 % 300]).collect();
    let read = |i: usize| {
        let block = &blocks[i * 7919 % n];
        u64::from(black_box(block[0])) + u64::from(black_box(block[block.len() - 1]))
    };
    (0..n).map(read).sum()
}

static BLOCK: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);

extern "C" fn handler(_number: i32) {
    load8(BLOCK.load(Ordering::Relaxed) as *const u8, COUNT.load(Ordering::Relaxed) as usize);
}

static mut PLACE: [u16; 128] = [0; 128];

/// Microseconds from the end of a handler to the next one, so that the loop goes on however slow handlers are.
const BETWEEN: [usize; 4] = [0, 0, 0, 30];

/// Stores, and loads nothing.
extern "C" fn ten_stores(_number: i32) {
    store2((&raw mut PLACE).cast(), 10);
    unsafe { setitimer(0, &BETWEEN, std::ptr::null_mut()) };
}

/// Has `ten_stores` interrupt a loop of `n` loads all the time.
fn storm(at: *const u8, n: usize) -> u64 {
    unsafe { signal(14, ten_stores) };
    unsafe { setitimer(0, &BETWEEN, std::ptr::null_mut()) };
    let sum = load16(at, n);
    unsafe { setitimer(0, &[0; 4], std::ptr::null_mut()) };
    sum
}

unsafe extern "C" {
    fn setrlimit(which: i32, limits: &[u64; 2]) -> i32;
    fn setitimer(which: i32, new: &[usize; 4], old: *mut [usize; 4]) -> i32;
    fn fork() -> i32;
    fn _exit(code: i32) -> !;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn raise(number: i32) -> i32;
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let n: usize = words[2].parse().expect("a number");
    let mut block = Box::new(Block([1; 4096]));
    let mut other = Box::new(Block([1; 4096]));
    let at = black_box(block.0.as_mut_ptr());
    let to = black_box(other.0.as_mut_ptr());
    let done = match words[1].as_str() {
        "load1" => load1(at, n),
        "load2" => load2(at, n),
        "load4" => load4(at, n),
        "load8" => load8(at, n),
        "load16" => load16(at, n),
        "store1" => store1(at, n),
        "store2" => store2(at, n),
        "store4" => store4(at, n),
        "store8" => store8(at, n),
        "store16" => store16(at, n),
        "crossing" => crossing(at, n),
        "stack" => stack(n),
        "mixed" => mixed(at, n),
        "atomic" => {
            let shared = unsafe { AtomicU64::from_ptr(at.cast()) };
            (0..n).for_each(|_| _ = shared.fetch_add(1, Ordering::SeqCst));
            0
        }
        "copy" => copy(at, to, n),
        "move" => shift(at, to, n),
        "fill" => fill(at, to, n),
        "compare" => compare(at, to, n),
        "vector" => unsafe { vector(at, n) },
        "threads" => {
            let address = at as usize;
            std::thread::scope(|scope| {
                (0..4).for_each(|_| _ = scope.spawn(move || load8(address as *const u8, n)));
            });
            0
        }
        "chase" => chase(n),
        "blocks" => blocks(n),
        "heap" => heap(n),
        "streams" => streams(n),
        "fork" => {
            let child = unsafe { fork() };
            load8(at, n);
            if child == 0 {
                unsafe { _exit(0) };
            }
            let mut status = 0;
            unsafe { waitpid(child, &mut status, 0) };
            0
        }
        "engine-threads" => std::process::exit(engine_threads(n)),
        "engine-threads-without-room" => {
            leave_room(16 << 20);
            std::process::exit(engine_threads(n))
        }
        "engine-threads-of-child" => {
            black_box(chase(n));
            let child = unsafe { fork() };
            if child == 0 {
                std::process::exit(engine_threads(n));
            }
            let mut status = 0;
            unsafe { waitpid(child, &mut status, 0) };
            std::process::exit(status >> 8);
        }
        "chase-in-child" => {
            let child = unsafe { fork() };
            black_box(chase(n));
            if child == 0 {
                unsafe { _exit(0) };
            }
            let mut status = 0;
            unsafe { waitpid(child, &mut status, 0) };
            0
        }
        "abort" => {
            load8(at, n);
            std::process::abort();
        }
        "storm" => storm(at, n),
        "wait" => std::io::stdin().lines().count() as u64,
        "kill" => unsafe { raise(9) as u64 },
        "signals" => {
            BLOCK.store(at as u64, Ordering::Relaxed);
            COUNT.store(n as u64, Ordering::Relaxed);
            unsafe { signal(10, handler) };
            (0..5).for_each(|_| _ = unsafe { raise(10) });
            0
        }
        other => panic!("no mode {other}"),
    };
    std::process::exit(i32::from(done == u64::MAX));
}
