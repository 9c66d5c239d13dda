//! What must hold for any bytes given as a policy file. The fuzzer runs it, and so does an ordinary test.

use tiermem_placement::{Frame, Policy, Request, TIERS_MAX, TierIndex, TierLoad};

/// Parses `input` as a policy file.
///
/// # Panics
/// Where a promise is broken: a complaint outside the text, a policy that does not survive being written and read, a
/// choice of tiers that do not exist, that repeat, or that go over a limit.
pub fn check_policy(input: &[u8]) {
    let policy = match Policy::parse_bytes(input, "fuzz.toml") {
        Ok(policy) => policy,
        Err(error) => {
            let lines = input.iter().filter(|&&byte| byte == b'\n').count() + 1;
            assert!(!error.entries().is_empty());
            for entry in error.entries() {
                assert!((1..=lines).contains(&entry.line) && entry.column >= 1 && entry.width >= 1, "{entry:?}");
                assert!(!entry.message.is_empty() && entry.message.len() < 4096, "{entry:?}");
            }
            assert!(error.to_string().starts_with(&format!("fuzz.toml:{}:", error.entries()[0].line)));
            assert!(!error.summary().is_empty());
            return;
        }
    };
    let text = policy.to_toml();
    let again = Policy::parse(&text, "shown.toml").unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(policy, again, "{text}");
    check_choices(&policy, input);
    let frames =
        [Frame { symbol: Some("Cache::insert"), module: "/lib/libfoo.so.1" }, Frame { symbol: None, module: "" }];
    let site = policy.site_rules().matches(input.len() as u64, frames);
    assert!(site.is_none_or(|tier| tier.index() < policy.tiers().len()));
}

/// Asks the policy's plan for tiers, at loads taken from `input`'s bytes: many of them exactly at, one byte under or
/// one byte over what would still fit, because there is where a plan can be wrong.
fn check_choices(policy: &Policy, input: &[u8]) {
    let plan = policy.compile();
    for window in input.windows(TIERS_MAX + 3).step_by(16) {
        let [hint, grow, size] = [window[TIERS_MAX], window[TIERS_MAX + 1], window[TIERS_MAX + 2]];
        let grow = u64::from(grow) << 13;
        let mut loads = [TierLoad::default(); TIERS_MAX];
        let mut ceilings = [0; TIERS_MAX];
        for (i, (tier, &byte)) in policy.tiers().iter().zip(window).enumerate() {
            let capacity = if byte & 1 == 0 { u64::MAX } else { u64::from(byte) << 20 };
            ceilings[i] = tier.limit().unwrap_or(u64::MAX).min(capacity);
            let committed = match byte & 6 {
                0 => u64::from(byte),
                beside => (ceilings[i] - grow.min(ceilings[i])).saturating_add(u64::from(beside / 2)).saturating_sub(2),
            };
            loads[i] = TierLoad { committed, capacity, available: !byte.is_multiple_of(7) };
        }
        let request = Request { hint: Some(TierIndex(hint)), ..Request::new(1 << (size % 64), grow) };
        let tiers: Vec<TierIndex> = plan.choose(&request, &loads).iter().collect();
        for (i, tier) in tiers.iter().enumerate() {
            let load = loads[tier.index()];
            assert!(load.available, "{tier:?} is not available\n{policy}");
            let after = load.committed.checked_add(grow);
            assert!(after.is_some_and(|after| after <= ceilings[tier.index()]), "{tier:?} {load:?} + {grow}\n{policy}");
            assert!(!tiers[..i].contains(tier), "{tier:?} twice\n{policy}");
        }
    }
}
