//! The tail of a hardened block: what stands behind the bytes that the program asked for, and what a free block says.
//!
//! ```text
//! in use   | what the program uses …              | guard | unused |      seal     |
//!          block                                  asked            end - 8       end
//!
//!   seal    bits  0..32  check: a mix of bits 32..64 and the key, with bits 0, 8, 16 and 24 set
//!           bits 32..48  slack: bytes from `asked` to the end, 8 or more
//!           bits 48..64  site: who allocated the block
//!   guard   4 bytes: those of the check, repeated backwards from the seal, of which it may be the beginning
//!
//! free     | link | epitaph | …                                             | seal    |
//!
//!   seal    the key, with bit 0 set. On its way to its owner, or in quarantine: as in use, with 1 or 2 for the slack
//!   epitaph bits  0..16  who freed the block
//!           bits 16..32  a mix of the rest and the key
//!           bits 32..64  of the seal, when the block was in use. Blocks of 16 bytes have no room for it
//! ```
//!
//! The key comes from the block's address and a secret of the process, so that no tail is right anywhere else. No byte of a
//! guard is 0, so that a stray NUL behind a string is seen. Keys are no cryptography: who can read memory can forge them.
//!
//! That keyed words mark both the end and the state of a block is an idea of Scudo and hardened_malloc; here one word does
//! both, and it lies where an overflow must pass.

/// Bytes that a block needs for its seal.
pub const ROOM: usize = 8;

/// Largest slack that the seal can say. A block with more says this much; its guard then stands later than it might.
const SLACK_MAX: usize = 0xfff0;

/// An odd number whose bits look random: 2⁶⁴ divided by the golden ratio (Knuth, vol. 3, 6.4).
pub const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The bits that are always set in a check.
const SET: u32 = 0x0101_0101;

/// Spreads each bit over all. The upper half of the product: of the lower one, the bits that are set in a check would
/// hide some changes of the last byte.
#[inline(always)]
const fn mix(high: u32) -> u32 {
    ((high as u64).wrapping_mul(MIXER) >> 32) as u32
}

/// What a block's seal says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The program has it.
    Used {
        /// Bytes from the end of what was asked for to the end of the block.
        slack: usize,
    },
    /// On a free list.
    Free,
    /// Freed by another thread than its owner's, and on its way there.
    Travelling,
    /// Freed and kept back for a while.
    Quarantined,
}

/// What is known of a block that was freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epitaph {
    /// As in [`State::Used`].
    pub slack: usize,
    /// Who allocated it: a number of [`super::sites`].
    pub allocated_by: u16,
    /// Who freed it.
    pub freed_by: u16,
}

/// The key of one block.
#[derive(Clone, Copy, Debug)]
pub struct Key(u64);

impl Key {
    /// The key of the block at `at`.
    #[inline(always)]
    pub const fn new(at: usize, secret: u64) -> Self {
        Self((at as u64 ^ secret).wrapping_mul(MIXER))
    }

    #[inline(always)]
    const fn check(self, high: u32) -> u32 {
        ((self.0 >> 32) as u32 ^ mix(high)) | SET
    }

    #[inline(always)]
    const fn sealed(self, high: u32) -> u64 {
        (high as u64) << 32 | self.check(high) as u64
    }

    /// The seal of a block in use.
    #[inline(always)]
    pub const fn used(self, slack: usize, site: u16) -> u64 {
        self.sealed((site as u32) << 16 | slack as u32)
    }

    /// The seal of a free block.
    #[inline(always)]
    pub const fn free(self) -> u64 {
        self.0 | 1
    }

    /// The seal of a block that `site` freed and that is on its way.
    pub const fn travelling(self, site: u16) -> u64 {
        self.sealed((site as u32) << 16 | 1)
    }

    /// The seal of a block that `site` freed and that is kept back.
    pub const fn quarantined(self, site: u16) -> u64 {
        self.sealed((site as u32) << 16 | 2)
    }

    /// The slack of a block that the seal, being right, says to be in use; `None` otherwise.
    #[inline(always)]
    pub const fn slack_if_used(self, seal: u64) -> Option<usize> {
        let high = (seal >> 32) as u32;
        let slack = (high & 0xffff) as usize;
        if self.check(high) == seal as u32 && slack >= ROOM { Some(slack) } else { None }
    }

    /// What the seal says; `None` if it is not right.
    pub const fn open(self, seal: u64) -> Option<State> {
        if seal == self.free() {
            return Some(State::Free);
        }
        let high = (seal >> 32) as u32;
        if self.check(high) != seal as u32 {
            return None;
        }
        match high & 0xffff {
            1 => Some(State::Travelling),
            2 => Some(State::Quarantined),
            slack if slack as usize >= ROOM => Some(State::Used { slack: slack as usize }),
            _ => None,
        }
    }

    /// What stands in a free block's second word: `site` freed it when its seal was `seal`.
    #[inline(always)]
    pub const fn epitaph(self, seal: u64, site: u16) -> u64 {
        let high = (seal >> 32) as u32;
        (high as u64) << 32 | self.mark(high, site) as u64 | site as u64
    }

    /// The upper half of an epitaph's lower half.
    #[inline(always)]
    const fn mark(self, high: u32, site: u16) -> u32 {
        (self.0 as u32 ^ mix(high) ^ (site as u32) << 16) & 0xffff_0000
    }

    /// Reads it; `None` if it is none.
    pub const fn read_epitaph(self, word: u64) -> Option<Epitaph> {
        let (high, freed_by) = ((word >> 32) as u32, word as u16);
        let slack = (high & 0xffff) as usize;
        if self.mark(high, freed_by) != word as u32 & 0xffff_0000 || slack < ROOM {
            return None;
        }
        Some(Epitaph { slack, allocated_by: (high >> 16) as u16, freed_by })
    }
}

/// Who allocated a block in use, or freed one that is on its way or kept back.
pub const fn site(seal: u64) -> u16 {
    (seal >> 48) as u16
}

/// What stands at the end of what was asked for.
#[inline(always)]
pub const fn guard(seal: u64, slack: usize) -> u32 {
    (seal as u32).rotate_left(slack as u32 % 4 * 8)
}

/// The slack to be written for a block of `block_size` bytes of which `asked` were asked for.
#[inline(always)]
pub const fn slack(block_size: usize, asked: usize) -> usize {
    let slack = block_size - asked;
    if slack > SLACK_MAX { SLACK_MAX } else { slack }
}

/// Whether a slack may stand for a larger one.
pub const fn is_rounded(slack: usize) -> bool {
    slack == SLACK_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: u64 = 0x0123_4567_89ab_cdef;
    const KEY: Key = Key::new(0x7f12_3456_7890, SECRET);

    #[test]
    fn what_is_sealed_can_be_read_again() {
        assert_eq!(KEY.open(KEY.free()), Some(State::Free));
        for by in [0, 1, 65535] {
            assert_eq!(KEY.open(KEY.travelling(by)), Some(State::Travelling));
            assert_eq!(KEY.open(KEY.quarantined(by)), Some(State::Quarantined));
            assert_eq!(KEY.slack_if_used(KEY.travelling(by)), None);
            for slack in [8, 9, 4096, SLACK_MAX] {
                let seal = KEY.used(slack, by);
                assert_eq!((KEY.open(seal), site(seal)), (Some(State::Used { slack }), by));
                assert_eq!(KEY.slack_if_used(seal), Some(slack));
                let epitaph = Epitaph { slack, allocated_by: by, freed_by: 77 };
                assert_eq!(KEY.read_epitaph(KEY.epitaph(seal, 77)), Some(epitaph));
            }
        }
    }

    #[test]
    fn each_changed_byte_and_each_other_address_is_seen() {
        for seal in [KEY.used(8, 77), KEY.free(), KEY.travelling(3)] {
            for byte in 0..8 {
                for change in 1..=255u64 {
                    assert_eq!(KEY.open(seal ^ change << (8 * byte)), None, "byte {byte} ^ {change}");
                }
            }
            for step in (16..65536).step_by(16) {
                assert_eq!(Key::new(0x7f12_3456_7890 + step, SECRET).open(seal), None);
            }
        }
        for fill in [0, u64::MAX, 0x4141_4141_4141_4141] {
            assert_eq!(KEY.open(fill), None);
        }
    }

    /// The guard is written after the seal, of which it may be a part: there it changes nothing.
    #[test]
    fn a_guard_and_the_seal_behind_it_fit_together() {
        for slack in 8..40usize {
            let mut block = [0u8; 64];
            let seal = KEY.used(slack, 9);
            let at = block.len() - slack;
            block[56..].copy_from_slice(&seal.to_le_bytes());
            block[at..at + 4].copy_from_slice(&guard(seal, slack).to_le_bytes());
            assert_eq!(block[56..], seal.to_le_bytes(), "slack {slack}");
            assert!(block[at..at + 4].iter().all(|&byte| byte != 0));
        }
    }

    #[test]
    fn slack_is_cut_where_it_does_not_fit() {
        assert_eq!(slack(65536, 0), SLACK_MAX);
        assert!(is_rounded(slack(65536, 0)) && !is_rounded(slack(65536, 1024)));
    }
}
