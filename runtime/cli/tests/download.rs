//! Downloads through a server that cuts off, lies, redirects or is not there.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use support::{Answer, Server, Tracklens, names};

/// Larger than what is read at once, with no two parts alike.
fn file() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

#[test]
fn what_was_cut_off_is_resumed() {
    let half = file().len() / 2;
    let server = Server::start(move |request, number| {
        let answer = Answer::file(request, &file());
        if number == 0 {
            answer.cut_after(half)
        } else {
            answer
        }
    });
    let tracklens = Tracklens::new();
    let url = format!("{}/mine.pt", server.url);
    let said = tracklens.run(&["models", "pull", "mine", "--url", &url]);
    said.well(&["trusted as it came", "models export mine"]);
    assert_eq!(fs::read(tracklens.checkpoint("mine.pt")).unwrap(), file());
    let from: Vec<Option<usize>> = server
        .requests()
        .iter()
        .map(|request| request.from)
        .collect();
    assert_eq!(from, [None, Some(half)]);
}

#[test]
fn what_an_earlier_command_left_is_used() {
    let server = Server::of(vec![("mine.pt".into(), file())]);
    let tracklens = Tracklens::new();
    let part = tracklens.checkpoint("mine.pt.part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    let url = format!("{}/mine.pt", server.url);
    for left in [1000, file().len()] {
        fs::write(&part, &file()[..left]).unwrap();
        let said = tracklens.run(&["models", "pull", "mine", "--url", &url]);
        said.well(&[]);
        assert_eq!(fs::read(tracklens.checkpoint("mine.pt")).unwrap(), file());
        fs::remove_file(tracklens.checkpoint("mine.pt")).unwrap();
    }
    let from: Vec<Option<usize>> = server
        .requests()
        .iter()
        .map(|request| request.from)
        .collect();
    assert_eq!(from, [Some(1000), Some(file().len())]);
}

#[test]
fn a_server_without_ranges_sends_all_of_it_again() {
    let server = Server::start(|_, _| Answer::new("200 OK", &file()));
    let tracklens = Tracklens::new();
    let part = tracklens.checkpoint("mine.pt.part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, vec![7; 2_000_000]).unwrap();
    let url = format!("{}/mine.pt", server.url);
    tracklens
        .run(&["models", "pull", "mine", "--url", &url])
        .well(&[]);
    assert_eq!(server.requests()[0].from, Some(2_000_000));
    assert_eq!(fs::read(tracklens.checkpoint("mine.pt")).unwrap(), file());
}

#[test]
fn a_wrong_checksum_leaves_nothing_behind() {
    let server = Server::of(vec![("tiny.pt".into(), file())]);
    let tracklens = Tracklens::new();
    let url = format!("{}/tiny.pt", server.url);
    let said = tracklens.run(&["models", "pull", "tiny", "--url", &url]);
    said.refused(&["expected sha256 7402e0d8", "thrown away"]);
    assert_eq!(names(&tracklens.models().join("checkpoints")), [""; 0]);
}

#[test]
fn the_start_of_another_file_is_fetched_again_as_a_whole() {
    let server = Server::of(vec![("mine.pt".into(), file())]);
    let tracklens = Tracklens::new();
    let url = format!("{}/mine.pt", server.url);
    let pull = ["models", "pull", "mine", "--url", &url];
    tracklens.run(&pull).well(&[]);
    fs::remove_file(tracklens.checkpoint("mine.pt")).unwrap();
    fs::write(tracklens.checkpoint("mine.pt.part"), [9; 5000]).unwrap();
    tracklens.run(&pull).well(&["as expected"]);
    assert_eq!(fs::read(tracklens.checkpoint("mine.pt")).unwrap(), file());
    let from: Vec<Option<usize>> = server
        .requests()
        .iter()
        .map(|request| request.from)
        .collect();
    assert_eq!(from, [None, Some(5000), None]);
}

#[test]
fn a_file_trusted_once_may_not_change() {
    let server = Server::start(|_, number| Answer::new("200 OK", &[number as u8; 1000]));
    let tracklens = Tracklens::new();
    let url = format!("{}/mine.pt", server.url);
    let pull = ["models", "pull", "mine", "--url", &url];
    tracklens.run(&pull).well(&["trusted as it came"]);
    tracklens.run(&pull).well(&["as expected"]);
    assert_eq!(server.requests().len(), 1, "what is there is not fetched");
    fs::write(tracklens.checkpoint("mine.pt"), "damaged").unwrap();
    tracklens.run(&pull).refused(&["expected sha256"]);
}

#[test]
fn what_is_not_there_is_said_at_once() {
    let server = Server::start(|_, _| Answer::missing());
    let tracklens = Tracklens::new();
    let url = format!("{}/mine.pt", server.url);
    let said = tracklens.run(&["models", "pull", "mine", "--url", &url]);
    said.refused(&["404 Not Found", &url, "check the address"]);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(names(&tracklens.models().join("checkpoints")), [""; 0]);
}

#[test]
fn a_busy_server_is_asked_again() {
    let server = Server::start(|request, number| match number {
        0 => Answer::new("503 Service Unavailable", b""),
        _ => Answer::file(request, &file()),
    });
    let tracklens = Tracklens::new();
    let url = format!("{}/mine.pt", server.url);
    tracklens
        .run(&["models", "pull", "mine", "--url", &url])
        .well(&[]);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_server_that_brings_nothing_is_given_up_and_what_came_kept() {
    let server = Server::start(|request, number| match number {
        0 => Answer::file(request, &file()).cut_after(70_000),
        _ => Answer::file(request, &file()).cut_after(0),
    });
    let tracklens = Tracklens::new();
    let url = format!("{}/mine.pt", server.url);
    let said = tracklens.run(&["models", "pull", "mine", "--url", &url]);
    said.refused(&["68.36 KiB of 1.14 MiB are kept", "type the same again"]);
    assert_eq!(
        names(&tracklens.models().join("checkpoints")),
        ["mine.pt.part"]
    );
}

#[test]
fn a_redirection_is_followed_with_its_range() {
    let server = Server::start(|request, _| match request.path.as_str() {
        "/mine.pt" => Answer::new("302 Found", b"").header("Location: /elsewhere"),
        _ => Answer::file(request, &file()),
    });
    let tracklens = Tracklens::new();
    let part = tracklens.checkpoint("mine.pt.part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, &file()[..1000]).unwrap();
    let url = format!("{}/mine.pt", server.url);
    tracklens
        .run(&["models", "pull", "mine", "--url", &url])
        .well(&[]);
    let last = server.requests().pop().unwrap();
    assert_eq!((last.path.as_str(), last.from), ("/elsewhere", Some(1000)));
    assert_eq!(fs::read(tracklens.checkpoint("mine.pt")).unwrap(), file());
}

#[test]
fn no_room_is_said_before_and_during() {
    let server = Server::start(|request, _| match request.path.as_str() {
        "/huge.pt" => Answer::new("200 OK", b"").claims(1 << 60),
        _ => Answer::file(request, &file()),
    });
    let tracklens = Tracklens::new();
    let pull = |file: &str| {
        let url = format!("{}/{file}", server.url);
        tracklens.run(&["models", "pull", "mine", "--url", &url])
    };
    pull("huge.pt").refused(&["1.00 EiB more are needed", "--dir"]);
    // A file that is always full.
    let part = tracklens.checkpoint("mine.pt.part");
    symlink("/dev/full", &part).unwrap();
    pull("mine.pt").refused(&["the disk is full", "mine.pt.part", "make room"]);
    assert!(!tracklens.checkpoint("mine.pt").exists());
}

#[test]
fn the_proxy_of_the_environment_is_asked() {
    let proxy = Server::start(|_, _| Answer::new("403 Forbidden", b""));
    let tracklens = Tracklens::new()
        .env("http_proxy", &proxy.url)
        .env("HTTP_PROXY", &proxy.url);
    let url = "http://weights.invalid/mine.pt";
    let said = tracklens.run(&["models", "pull", "mine", "--url", url]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(proxy.requests()[0].path.contains("weights.invalid"));
}
