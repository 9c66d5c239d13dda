//! What programs ask about their memory, with the C library's calls and tiermem's own.

use tiermem_tests::{Run, Tiering, c_program, find, in_every_setup, scratch};

/// The program checks the figures itself; here the forms are judged.
fn answers(tiering: &Tiering) {
    let Some(program) = c_program("statistics") else { return };
    let finished = program.under(tiering).finish().succeeded();
    let text = finished.text();
    let (xml, json) = text.split_once("</malloc>\n").expect("XML comes first");
    let json: serde_json::Value = serde_json::from_str(json).expect("one JSON object");
    assert_eq!(json["format"], "tiermem-statistics/1");
    let tiers = json["tiers"].as_array().expect("a list");
    let sum = |field: &str| tiers.iter().map(|tier| tier[field].as_u64().expect("a number")).sum::<u64>();
    for field in ["live", "active", "committed", "allocations", "frees"] {
        assert_eq!(json[field].as_u64(), Some(sum(field)), "{field}: {json}");
    }
    let classes = tiers.iter().flat_map(|tier| tier["classes"].as_array().expect("a list"));
    let live: u64 = classes.map(|class| class["live_bytes"].as_u64().expect("a number")).sum();
    assert!(live.abs_diff(sum("live")) < 1 << 16, "the classes add up: {live} of {json}");
    assert_eq!(xml.matches("<heap ").count(), tiers.len());
    assert_eq!(finished.stderr.matches("tiermem statistics").count(), 2, "{}", finished.stderr);

    // Another reader of XML.
    let Some(python) = find("python3") else { return };
    let folder = scratch();
    let file = folder.path().join("info.xml");
    std::fs::write(&file, format!("{xml}</malloc>\n")).expect("write");
    let reads = "import sys, xml.etree.ElementTree as e; print(e.parse(sys.argv[1]).getroot().get('version'))";
    let read = Run::new(python).args(["-c", reads]).arg(&file).finish().succeeded();
    assert_eq!(read.text(), "1\n");
}

in_every_setup!(answer, answers);
