//! The C allocation functions, called as a C program calls them, so that whatever library is preloaded answers.
//!
//! A [`Block`] carries a stamp in its first and last bytes. The stamp depends on the block's address and size, so a
//! block that overlaps another, moves without its contents, or is handed out twice is noticed when it is freed. Two
//! loads a block are cheap beside the cache misses that any real program has, and every rival pays them.

use std::ffi::c_void;
use std::hint::black_box;
use std::ptr::NonNull;

/// OS page size assumed when a block is touched throughout. Larger OS pages only mean a few touches more.
pub const OS_PAGE_BYTES: usize = 4096;
/// Smallest block: it must hold the stamp.
pub const BLOCK_BYTES_MIN: usize = 8;

const STAMP_KEY: u64 = 0x7e1e_93a5_0c4d_b862;
/// From this size on the last byte is stamped too; below, it would lie within the first stamp.
const TAIL_FROM_BYTES: usize = BLOCK_BYTES_MIN + 1;

unsafe extern "C" {
    pub(super) fn malloc(size: usize) -> *mut c_void;
    pub(super) fn free(block: *mut c_void);
    pub(super) fn calloc(count: usize, size: usize) -> *mut c_void;
    pub(super) fn realloc(block: *mut c_void, size: usize) -> *mut c_void;
    pub(super) fn aligned_alloc(align: usize, size: usize) -> *mut c_void;
}

/// One block from the C heap; freed, after a check of its contents, when dropped.
#[derive(Debug)]
pub struct Block {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a block is plain memory that only its owner touches, and the C heap may free on any thread.
unsafe impl Send for Block {}

impl Block {
    /// `malloc(bytes)`.
    pub fn new(bytes: usize) -> Self {
        // SAFETY: malloc may be called with any size.
        Self::stamped(unsafe { malloc(bytes) }, bytes)
    }

    /// `calloc(1, bytes)`, with a look at the first and last bytes to see that they are zero.
    pub fn zeroed(bytes: usize) -> Self {
        // SAFETY: calloc may be called with any size.
        let block = Self::adopt(unsafe { calloc(1, bytes) }, bytes);
        assert!(block.first_word() == 0 && block.last_byte() == 0, "calloc({bytes}) returned memory that is not zero");
        block.write_stamp();
        block
    }

    /// `aligned_alloc(align, bytes)`; `bytes` must be a multiple of `align`, a power of two.
    pub fn aligned(align: usize, bytes: usize) -> Self {
        // SAFETY: the arguments are as the C standard asks, and a bad pair would only give null.
        let start = unsafe { aligned_alloc(align, bytes) };
        assert!(start.addr().is_multiple_of(align), "aligned_alloc({align}, {bytes}) returned {start:p}");
        Self::stamped(start, bytes)
    }

    /// `realloc` to `bytes`; the stamp must have moved along.
    pub fn resize(&mut self, bytes: usize) {
        assert!(bytes >= BLOCK_BYTES_MIN, "a block must hold its stamp");
        self.check();
        let stamp = self.stamp();
        // SAFETY: `start` came from the C heap, is live, and is replaced on the next line.
        let moved = unsafe { realloc(self.start.as_ptr().cast(), bytes) };
        self.start = NonNull::new(moved.cast()).expect("the heap is out of memory");
        self.bytes = bytes;
        assert!(self.first_word() == stamp, "realloc to {bytes} bytes lost the contents");
        self.write_stamp();
    }

    /// Size asked for, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Address of its first byte.
    pub fn address(&self) -> usize {
        self.start.addr().get()
    }

    /// Writes one word in each OS page, so that all of the block is resident.
    pub fn touch(&mut self) {
        for offset in (OS_PAGE_BYTES..self.bytes.saturating_sub(8)).step_by(OS_PAGE_BYTES) {
            // SAFETY: the offset leaves at least 8 bytes in the block; write_unaligned asks no alignment.
            unsafe { self.start.as_ptr().add(offset).cast::<u64>().write_unaligned(offset as u64) };
        }
    }

    /// Adds one to the byte at `offset`, `times` times, through memory.
    pub fn hammer(&mut self, offset: usize, times: usize) {
        assert!((BLOCK_BYTES_MIN..self.bytes - 1).contains(&offset), "the stamp must stay whole");
        // SAFETY: the offset is inside the block.
        let byte = unsafe { self.start.as_ptr().add(offset) };
        for _ in 0..times {
            // SAFETY: `byte` points into this live block, which `&mut self` lets nobody else touch; volatile keeps the
            // accesses, which are what is measured.
            unsafe { byte.write_volatile(byte.read_volatile().wrapping_add(1)) };
        }
    }

    /// Fails if the stamp is damaged.
    pub fn check(&self) {
        let stamp = self.stamp();
        let tail_whole = self.bytes < TAIL_FROM_BYTES || self.last_byte() == stamp as u8;
        assert!(
            self.first_word() == stamp && tail_whole,
            "block {:p} of {} bytes was overwritten",
            self.start,
            self.bytes
        );
    }

    fn adopt(start: *mut c_void, bytes: usize) -> Self {
        assert!(bytes >= BLOCK_BYTES_MIN, "a block must hold its stamp");
        // black_box: the compiler knows malloc and may otherwise remove a pair whose block nobody sees.
        let start = NonNull::new(black_box(start.cast::<u8>())).expect("the heap is out of memory");
        Self { start, bytes }
    }

    fn stamped(start: *mut c_void, bytes: usize) -> Self {
        let block = Self::adopt(start, bytes);
        block.write_stamp();
        block
    }

    fn write_stamp(&self) {
        let stamp = self.stamp();
        // SAFETY: every block has at least 8 bytes.
        unsafe { self.start.as_ptr().cast::<u64>().write_unaligned(stamp) };
        if self.bytes >= TAIL_FROM_BYTES {
            // SAFETY: the last byte is inside the block.
            unsafe { self.start.as_ptr().add(self.bytes - 1).write(stamp as u8) };
        }
    }

    fn stamp(&self) -> u64 {
        (self.start.addr().get() as u64 ^ STAMP_KEY).wrapping_add((self.bytes as u64) << 40)
    }

    fn first_word(&self) -> u64 {
        // SAFETY: every block has at least 8 bytes, initialised by `stamped` or by calloc or copied by realloc.
        unsafe { self.start.as_ptr().cast::<u64>().read_unaligned() }
    }

    fn last_byte(&self) -> u8 {
        // SAFETY: the last byte is inside the block; it was initialised by `stamped` or by calloc.
        unsafe { self.start.as_ptr().add(self.bytes - 1).read() }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.check();
        // SAFETY: the block is live and owned; nothing uses it after this.
        unsafe { free(self.start.as_ptr().cast()) };
    }
}
