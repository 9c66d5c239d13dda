//! Round steps for the axes of charts.

/// Marks from 0 up to at least `highest` bytes, in steps of a round binary size; at most six of them.
pub fn byte_marks(highest: u64) -> Vec<u64> {
    const STEPS_MAX: u64 = 5;
    let highest = highest.max(STEPS_MAX);
    // Powers of two are round here: 1, 2, 4 … 512 of each unit.
    let step = highest.div_ceil(STEPS_MAX).next_power_of_two();
    (0..=highest.div_ceil(step)).map(|i| i * step).collect()
}

/// A mark of [`byte_marks`] as text, exact.
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
    let (unit, shift) = UNITS.into_iter().find(|&(_, s)| bytes >> s > 0).unwrap_or(("B", 0));
    // Marks are a few powers of two, so their fractions end soon; f64 prints all of them.
    format!("{} {unit}", bytes as f64 / (1u64 << shift) as f64)
}

/// Marks from 0 up to at most `highest` milliseconds, in round steps; at most seven of them.
pub fn time_marks(highest: u64) -> Vec<u64> {
    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;
    const STEPS: [u64; 24] = [
        1,
        2,
        5,
        10,
        20,
        50,
        100,
        200,
        500,
        1_000,
        2_000,
        5_000,
        10_000,
        15_000,
        30_000,
        MINUTE,
        2 * MINUTE,
        5 * MINUTE,
        10 * MINUTE,
        30 * MINUTE,
        HOUR,
        2 * HOUR,
        6 * HOUR,
        12 * HOUR,
    ];
    let step = STEPS.into_iter().find(|step| highest / step <= 6).unwrap_or((highest / 6).max(1));
    (0..=highest / step).map(|i| i * step).collect()
}

/// A mark of [`time_marks`] as text.
pub fn show_time(ms: u64) -> String {
    match ms {
        0 => "0".to_owned(),
        ms if ms < 1000 => format!("{ms} ms"),
        ms if ms < 120_000 && ms % 1000 != 0 => format!("{:.1} s", ms as f64 / 1000.0),
        ms if ms < 120_000 => format!("{} s", ms / 1000),
        ms if ms < 7_200_000 => format!("{} min", ms / 60_000),
        ms => format!("{} h", ms as f64 / 3_600_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::{byte_marks, show_bytes, show_time, time_marks};

    #[test]
    fn marks_cover_the_values_without_waste() {
        for highest in [0, 1, 7, 100, 4096, 1 << 20, (1 << 20) + 1, 1_500_000_000, 5 << 40] {
            let marks = byte_marks(highest);
            let top = *marks.last().unwrap();
            assert!(marks.len() <= 6 && top >= highest, "{highest}: {marks:?}");
            assert!(highest < 64 || highest * 10 >= top * 6, "{highest}: {marks:?} wastes space");
        }
        assert_eq!(byte_marks(1 << 30).last(), Some(&(1 << 30)));
        assert_eq!([0, 512, 1280 << 20, 3 << 30].map(show_bytes).join(" "), "0 B 512 B 1.25 GiB 3 GiB");
    }

    #[test]
    fn times_are_round() {
        assert_eq!(time_marks(14_000), [0, 5_000, 10_000]);
        assert_eq!(time_marks(0), [0]);
        assert!(time_marks(10_000_000_000).len() <= 8);
        assert_eq!(
            [0, 500, 1500, 30_000, 600_000, 7_200_000].map(show_time).join(" "),
            "0 500 ms 1.5 s 30 s 10 min 2 h"
        );
    }
}
