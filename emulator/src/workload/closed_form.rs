//! What theory expects.
