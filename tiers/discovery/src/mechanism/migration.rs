pub fn probe(_: &[u32]) -> Vec<super::Mechanism> { Vec::new() }
