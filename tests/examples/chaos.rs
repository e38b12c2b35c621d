//! Kills nodes at random moments over a lossless or a live graph, and checks what must hold.
//!
//!   chaos (lossless | live) [SEED [KILLS [MINUTES]]]
//!
//! Prints each kill and, at the end, recovery times, memory and lost frames. Panics, with the seed and the
//! log, where a row is written twice, a frame is lost (lossless), an id is given twice, a node takes more
//! than 600 MiB, or the run does not end well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Duration;

use tracklens_tests::{Chaos, Mode, Report, chaos};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mode = match arguments.first().map(String::as_str) {
        Some("lossless") => Mode::Lossless,
        Some("live") => Mode::Live,
        _ => return println!("chaos (lossless | live) [SEED [KILLS [MINUTES]]]"),
    };
    let number = |place: usize, default: f64| {
        arguments
            .get(place)
            .map_or(default, |text| text.parse().expect("a number"))
    };
    let plan = Chaos {
        mode,
        seed: number(1, 1.0) as u64,
        kills: number(2, 50.0) as u32,
        time: Duration::from_secs_f64(number(3, 10.0) * 60.0),
    };
    match chaos(&plan, &mut |line| println!("{line}")) {
        Some(report) => tell(&plan, report),
        None => println!("TRACKLENS_DATA is not set: no clip"),
    }
}

fn tell(plan: &Chaos, report: Report) {
    println!("\n{plan:?}\n| node | kills | p50 s | p99 s | MiB at most |\n|---|---|---|---|---|");
    for (node, mut seconds) in report.recovery {
        seconds.sort_by(f64::total_cmp);
        let at = |part: f64| seconds[((seconds.len() - 1) as f64 * part).round() as usize];
        let memory = report.memory.get(node).copied().unwrap_or(0.0);
        let kills = seconds.len();
        println!(
            "| {node} | {kills} | {:.2} | {:.2} | {memory:.0} |",
            at(0.5),
            at(0.99)
        );
    }
    let (through, sent) = report.frames;
    let lost = sent.saturating_sub(through);
    let each = lost as f64 / f64::from(plan.kills.max(1));
    println!(
        "{} rows; {through} of {sent} frames, {each:.1} lost a kill",
        report.rows
    );
}
