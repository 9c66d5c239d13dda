//! Rules come into force when the process has allocated already: before `main`, while the policy is read.
//!
//! A thread's table of the fast path used to keep leading to the span that a class had before a rule covered it. When
//! that span was given back and used for smaller blocks, requests of the class got those: a program under a policy with
//! a size rule for small blocks got blocks that were too small.

use tiermem_tests::{Tiering, c_program};

#[test]
fn a_class_from_before_the_rule_gets_blocks_of_its_size() {
    let Some(program) = c_program("rule_reuse") else { return };
    for rule in ["> 0", "= 64"] {
        let policy = format!("version = 1\n[[rule]]\nsize = \"{rule}\"\ntier = \"dram\"\n");
        program.under(&Tiering::new(None).policy(&policy)).finish().succeeded_quietly();
    }
}
