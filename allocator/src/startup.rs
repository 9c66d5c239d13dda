//! Starting.

/// After fork, in the child.
pub fn after_fork_in_child() {}
