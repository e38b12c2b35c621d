//! `--help` of a node: what it is and which settings it reads.

use crate::Node;
use crate::settings::{Default, Profile, find};

/// Prints the help text of a node to standard output.
#[allow(clippy::print_stdout)]
pub(crate) fn print<N: Node>() {
    println!("{}", text::<N>());
}

fn text<N: Node>() -> String {
    let mut text = format!(
        "tracklens-{}: {}\n\nA node of a dora dataflow: start it with `dora run graphs/file.yml`.\n\n\
         Settings (environment, or `env:` in the graph):\n",
        N::NAME,
        N::ABOUT
    );
    for name in N::SETTINGS {
        let Some(setting) = find(name) else { continue };
        let default = match setting.default {
            Default::None => "no default".to_string(),
            Default::All(value) => format!("default {value}"),
            Default::PerProfile(values) => Profile::ALL
                .iter()
                .zip(values)
                .map(|(profile, value)| format!("{} {value}", profile.as_str()))
                .collect::<Vec<_>>()
                .join(", "),
        };
        text += &format!(
            "  {name}\n      {}\n      {}; {default}\n",
            setting.about,
            setting.kind.accepted()
        );
    }
    text + "\nSettings of every node, and where each value comes from: `tracklens config`."
}
