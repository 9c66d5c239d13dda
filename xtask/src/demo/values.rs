//! Values that can be checked: each follows from its key and from how often it was written.

/// Smallest value, in bytes.
const SIZE_MIN: f64 = 16.0;
/// Doublings from the smallest value to the largest one: 16 B to 64 KiB.
const SIZE_DOUBLINGS: f64 = 12.0;

/// The name of key number `key`.
pub fn name(key: u64) -> String {
    format!("key:{key:010}")
}

/// Writes the value of key number `key` after `rewrites` rewrites into `into`, replacing what is there.
///
/// Its size is between 16 B and 64 KiB, with small ones far more frequent: 1.5 kB on average.
pub fn fill(into: &mut Vec<u8>, key: u64, rewrites: u64) {
    let mut state = mix(key ^ mix(rewrites));
    into.clear();
    let size = size(next(&mut state));
    while into.len() < size {
        into.extend_from_slice(&next(&mut state).to_le_bytes());
    }
    into.truncate(size);
}

fn size(random: u64) -> usize {
    // 53 bits are what an f64 holds exactly; the sixth power makes small sizes frequent.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let uniform = (random >> 11) as f64 / (1u64 << 53) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "16 to 65536")]
    let size = (SIZE_MIN * (SIZE_DOUBLINGS * uniform.powi(6)).exp2()) as usize;
    size
}

/// The next number of Steele, Lea and Flood's `SplitMix64` ("Fast Splittable Pseudorandom Number Generators", 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mix(*state)
}

fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(key: u64, rewrites: u64) -> Vec<u8> {
        let mut value = Vec::new();
        fill(&mut value, key, rewrites);
        value
    }

    #[test]
    fn a_value_follows_from_its_key_and_its_rewrites() {
        assert_eq!(value(7, 0), value(7, 0));
        assert_ne!(value(7, 0), value(8, 0));
        assert_ne!(value(7, 0), value(7, 1));
        let all: std::collections::HashSet<_> = (0..10_000).map(|key| value(key, 0)).collect();
        assert_eq!(all.len(), 10_000);
    }

    #[test]
    fn sizes_are_mixed_and_small_ones_are_frequent() {
        let sizes: Vec<_> = (0..20_000).map(|key| value(key, 0).len()).collect();
        let average = sizes.iter().sum::<usize>() / sizes.len();
        assert!(sizes.iter().all(|size| (16..=65_536).contains(size)));
        assert!((1_300..1_700).contains(&average), "{average}");
        assert!(sizes.iter().any(|&size| size > 60_000) && sizes.iter().any(|&size| size < 20));
    }
}
