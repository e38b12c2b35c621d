//! `graphs/multi-machine.yml` on two machines gives what one machine gives.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use tracklens_tests::{Graph, Machines, ffmpeg};

/// Streams, and what FFmpeg draws for them.
const CAMERAS: [(&str, &str); 2] = [
    ("door", "testsrc2=size=320x240:rate=25:duration=4"),
    ("yard", "testsrc=size=320x240:rate=25:duration=4"),
];

#[test]
fn two_machines_give_the_rows_of_one() {
    let clips = tempfile::tempdir().unwrap();
    let mut one = Graph::named("file.yml").env("PROCESSING_RESOLUTION", "240");
    let mut sources = String::new();
    for (camera, picture) in CAMERAS {
        let clip = clips.path().join(format!("{camera}.mp4"));
        ffmpeg(&[
            "-f",
            "lavfi",
            "-i",
            picture,
            "-pix_fmt",
            "yuv420p",
            clip.to_str().unwrap(),
        ]);
        sources += &format!("- {{id: {camera}, url: '{}'}}\n", clip.display());
        one = one.source(camera, &clip);
    }
    let one = one.run();

    let machines = Machines::start(&[
        ("SOURCES", &sources),
        ("PROCESSING_RESOLUTION", "240"),
        ("INGEST_PORT", "0"),
    ]);
    machines.run("multi-machine.yml", &[("FLOW_MODE", "lossless")]);
    machines.wait_until("the end of both streams", |machines| {
        let output = machines.output();
        CAMERAS
            .iter()
            .all(|(camera, _)| output.told(camera, "state") == "closed")
    });
    eprintln!("networks of their own: {}", machines.are_apart());
    let edge = ["tracklens-buffer", "tracklens-decoder", "tracklens-ingest"];
    assert_eq!(machines.programs("edge"), edge);
    assert_eq!(
        machines.programs("gpu"),
        ["tracklens-iou-tracker", "tracklens-publisher"]
    );
    let two = machines.into_output();
    two.assert_rows_once_and_in_order();
    for (camera, _) in CAMERAS {
        assert_eq!(two.frames(camera), 100);
        let rows = |text: String| {
            let mark = format!("\"stream_id\":\"{camera}\"");
            let rows = text.lines().filter(|row| row.contains(&mark));
            rows.map(String::from).collect::<Vec<_>>()
        };
        let (one, two) = (
            rows(one.text("tracks.jsonl")),
            rows(two.text("tracks.jsonl")),
        );
        assert!(one.len() > 50, "{camera}: {} rows", one.len());
        assert!(one == two, "{camera}: {} and {} rows", one.len(), two.len());
    }
}
