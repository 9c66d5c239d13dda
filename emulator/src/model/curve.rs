//! Latency under load.

use tiermem_topology::Point;

/// A loaded-latency curve, straight between its points.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Curve {
    points: Vec<Point>,
}

impl Curve {
    pub(super) fn new(points: &[Point]) -> Self {
        Self { points: points.to_vec() }
    }

    /// What the idle latency is multiplied by at `utilisation`; beyond the ends, the value there.
    pub(super) fn factor(&self, utilisation: f64) -> f64 {
        let mut before: Option<&Point> = None;
        for point in &self.points {
            if utilisation <= point.utilisation {
                let Some(before) = before else { return point.latency_factor };
                let part = (utilisation - before.utilisation) / (point.utilisation - before.utilisation);
                return before.latency_factor + part * (point.latency_factor - before.latency_factor);
            }
            before = Some(point);
        }
        before.map_or(1.0, |last| last.latency_factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_through_its_points_and_straight_between_them() {
        let point = |utilisation, latency_factor| Point { utilisation, latency_factor };
        let curve = Curve::new(&[point(0.0, 1.0), point(0.5, 1.2), point(1.0, 3.0)]);
        let at = [(0.0, 1.0), (0.25, 1.1), (0.5, 1.2), (0.75, 2.1), (1.0, 3.0), (1.5, 3.0)];
        for (utilisation, factor) in at {
            assert!((curve.factor(utilisation) - factor).abs() < 1e-12, "{utilisation}");
        }
        assert_eq!(Curve::new(&[]).factor(0.7), 1.0);
    }
}
