//! A few kills at random moments over a lossless and a live graph; `examples/chaos.rs` does it for longer.
#![allow(missing_docs)]

use std::time::Duration;

use tracklens_tests::{Chaos, Mode, chaos};

fn some_kills(mode: Mode, seed: u64) {
    let plan = Chaos {
        mode,
        seed,
        kills: 5,
        time: Duration::from_secs(20),
    };
    if let Some(report) = chaos(&plan, &mut |line| eprintln!("{line}")) {
        let kills: usize = report.recovery.values().map(Vec::len).sum();
        assert_eq!(kills, 5);
    }
}

#[test]
fn a_lossless_graph_survives_kills() {
    some_kills(Mode::Lossless, 1);
}

#[test]
fn a_live_graph_survives_kills() {
    some_kills(Mode::Live, 2);
}
