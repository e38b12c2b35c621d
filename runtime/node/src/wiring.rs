//! Edges that a graph does not declare.
//!
//! `dora record` adds a node with inputs alone, and `dora replay` takes the inputs of the nodes that it
//! replaces away, so neither could take part in credit. But nodes of one machine talk to each other
//! directly: a node that adds an input or an output to its own configuration before it connects has
//! that edge. It is informal: dora tells nobody of its end, and it does not reach another machine.

use std::collections::BTreeSet;
use std::env::VarError;
use std::time::{Duration, Instant};

use dora_message::config::{Input, InputMapping, UserInputMapping};
use dora_message::daemon_to_node::{NodeConfig, OutputRouting};
use dora_node_api::{DoraNode, EventStream};
use eyre::{WrapErr, eyre};

use crate::context::credit_output;
use crate::graph::Graph;

/// The node that `dora record` adds to a graph.
pub const RECORDER: &str = "__dora_record__";
/// The input on which it acknowledges.
pub(crate) const RECORDER_INPUT: &str = "credit_recorder";
/// Room for credit: small messages, of which the newest counts.
const CREDIT_QUEUE: usize = 64;

/// What connects a node to its dataflow.
pub struct Wiring {
    config: NodeConfig,
    graph: Graph,
    informal: BTreeSet<String>,
}

/// A connection, and those of its inputs that the graph does not declare.
pub(crate) type Connected = (DoraNode, EventStream, BTreeSet<String>);

impl Wiring {
    /// The configuration that dora gave this process; `None` where dora did not start it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn from_env() -> eyre::Result<Option<Self>> {
        let text = match std::env::var("DORA_NODE_CONFIG") {
            Ok(text) => text,
            Err(VarError::NotPresent) => return Ok(None),
            Err(error) => return Err(error).wrap_err("DORA_NODE_CONFIG"),
        };
        let config: NodeConfig =
            serde_yaml::from_str(&text).wrap_err("DORA_NODE_CONFIG is not what this dora sets")?;
        let graph = Graph::of(&config.dataflow_descriptor);
        Ok(Some(Self {
            config,
            graph,
            informal: BTreeSet::new(),
        }))
    }

    /// The graph that this node is part of.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The id of this node.
    #[must_use]
    pub fn id(&self) -> &str {
        self.config.node_id.as_ref()
    }

    /// Takes credit from an output that the graph does not connect to this node; nothing where it does.
    ///
    /// # Errors
    /// Where a name is none.
    pub fn add_input(&mut self, input: &str, node: &str, output: &str) -> eyre::Result<()> {
        let named = |_| eyre!("{node}/{output} is no output");
        let mapping = InputMapping::User(UserInputMapping {
            source: node.parse().map_err(named)?,
            output: output.parse().map_err(named)?,
        });
        let edge = Input {
            mapping,
            queue_size: Some(CREDIT_QUEUE),
            input_timeout: None,
            queue_policy: None,
        };
        let id = input.parse().map_err(|_| eyre!("{input} is no input"))?;
        if let std::collections::btree_map::Entry::Vacant(free) =
            self.config.run_config.inputs.entry(id)
        {
            free.insert(edge);
            self.informal.insert(input.into());
        }
        Ok(())
    }

    /// Gives credit for an input, to whoever takes it.
    ///
    /// # Errors
    /// Where the name is none.
    pub fn add_credit_output(&mut self, input: &str) -> eyre::Result<()> {
        let name = credit_output(input);
        let output: dora_message::id::DataId =
            name.parse().map_err(|_| eyre!("{name} is no output"))?;
        if self.config.run_config.outputs.insert(output.clone()) {
            // No consumer is known to dora, so none is waited for: the direct way is open at once.
            let routing = self.config.output_routing.get_or_insert_default();
            routing.insert(output, OutputRouting::default());
        }
        Ok(())
    }

    /// Takes credit from the recorder, where there is one that gives it.
    pub(crate) fn listen_to_recorder(&mut self, flow_mode: Option<&str>) -> eyre::Result<()> {
        let id = self.id().to_string();
        let input = self.graph.credited_by(RECORDER, &id, flow_mode);
        match input.map(credit_output) {
            Some(credit) => self.add_input(RECORDER_INPUT, RECORDER, &credit),
            None => Ok(()),
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// Where dora is not there.
    pub fn connect(self) -> eyre::Result<(DoraNode, EventStream)> {
        self.connect_informal()
            .map(|(node, events, _)| (node, events))
    }

    pub(crate) fn connect_informal(self) -> eyre::Result<Connected> {
        let (node, events) = DoraNode::init(self.config).wrap_err("no dataflow")?;
        Ok((node, events, self.informal))
    }
}

/// How long a recorder may say nothing: idle, it speaks every second.
const RECORDER_SILENCE: Duration = Duration::from_secs(30);
/// How long informal consumers are given to hear of the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// Consumers of whose end dora does not tell: when to wait for them no longer.
pub(crate) struct Informal {
    consumers: BTreeSet<String>,
    dismissed: BTreeSet<String>,
    recorder_heard: Instant,
    ended: Option<Instant>,
}

impl Informal {
    pub(crate) fn new(consumers: BTreeSet<String>, now: Instant) -> Self {
        Self {
            consumers,
            dismissed: BTreeSet::new(),
            recorder_heard: now,
            ended: None,
        }
    }

    /// A consumer has said something: whether that counts, or it is waited for no longer.
    pub(crate) fn heard(&mut self, consumer: &str, now: Instant) -> bool {
        if consumer == RECORDER_INPUT {
            self.recorder_heard = now;
        }
        !self.dismissed.contains(consumer)
    }

    /// Those who are waited for no longer from now on: all of them a while after the end (they are to
    /// hear of it), and a recorder that is silent.
    pub(crate) fn gone(&mut self, now: Instant, exhausted: bool) -> BTreeSet<String> {
        let mut gone = BTreeSet::new();
        if exhausted {
            let ended = *self.ended.get_or_insert(now);
            if now.duration_since(ended) >= FAREWELL {
                gone = std::mem::take(&mut self.consumers);
            }
        }
        if now.duration_since(self.recorder_heard) >= RECORDER_SILENCE
            && let Some(recorder) = self.consumers.take(RECORDER_INPUT)
        {
            tracing::warn!("the recorder says nothing: going on without it");
            gone.insert(recorder);
        }
        self.dismissed.extend(gone.iter().cloned());
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_recorder_and_all_after_the_end_are_waited_for_no_longer() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let names = [RECORDER_INPUT, "credit_buffer"].map(String::from);
        let mut informal = Informal::new(names.into(), start);
        assert!(informal.gone(after(29), false).is_empty());
        assert!(informal.heard("credit_buffer", after(29)));
        let recorder = BTreeSet::from([RECORDER_INPUT.to_string()]);
        assert_eq!(informal.gone(after(30), false), recorder);
        assert!(informal.gone(after(99), false).is_empty());
        assert!(informal.gone(after(100), true).is_empty());
        let buffer = BTreeSet::from(["credit_buffer".to_string()]);
        assert_eq!(informal.gone(after(101), true), buffer);
        assert!(
            !informal.heard("credit_buffer", after(102)),
            "it speaks in vain"
        );
        assert!(informal.heard("credit_tracker", after(102)));

        let mut informal = Informal::new(recorder.clone(), start);
        assert!(informal.heard(RECORDER_INPUT, after(20)));
        assert!(informal.gone(after(49), false).is_empty());
        assert_eq!(informal.gone(after(50), false), recorder);
    }
}
