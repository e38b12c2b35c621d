//! Edges that a graph does not declare.
//!
//! `dora record` adds a node with inputs alone, and `dora replay` takes the inputs of the nodes that it
//! replaces away, so neither could take part in credit. But nodes of one machine talk to each other
//! directly: a node that adds an input or an output to its own configuration before it connects has
//! that edge. It is informal: dora tells nobody of its end, and it does not reach another machine.

use std::collections::{BTreeMap, BTreeSet};
use std::env::VarError;
use std::time::{Duration, Instant};

use dora_message::config::{Input, InputMapping, UserInputMapping};
use dora_message::daemon_to_node::{NodeConfig, OutputRouting};
use dora_node_api::{DoraNode, EventStream};
use eyre::{WrapErr, eyre};
use tracklens_schemas::Credit;

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
/// How long the others may, once there is nothing more to be sent: they may be at work.
const SILENCE: Duration = Duration::from_secs(60);
/// How long informal consumers are given to hear of the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// The last word of a consumer at the end of all streams. Only informal edges need it: of others dora
/// tells the end.
pub(crate) fn farewell() -> Credit {
    Credit {
        window: 0,
        consumed: None,
        shard: None,
    }
}

/// Consumers of whose end dora does not tell: when to wait for them no longer.
pub(crate) struct Informal {
    /// When they were heard last.
    consumers: BTreeMap<String, Instant>,
    dismissed: BTreeSet<String>,
    ended: Option<Instant>,
}

impl Informal {
    pub(crate) fn new(consumers: BTreeSet<String>, now: Instant) -> Self {
        Self {
            consumers: consumers.into_iter().map(|name| (name, now)).collect(),
            dismissed: BTreeSet::new(),
            ended: None,
        }
    }

    /// A consumer has said something: whether it is waited for any longer.
    pub(crate) fn heard(&mut self, consumer: &str, credit: &Credit, now: Instant) -> bool {
        if let Some(heard) = self.consumers.get_mut(consumer) {
            *heard = now;
            if *credit == farewell() {
                self.dismiss(consumer);
            }
        }
        !self.dismissed.contains(consumer)
    }

    fn dismiss(&mut self, consumer: &str) {
        self.consumers.remove(consumer);
        self.dismissed.insert(consumer.into());
    }

    /// Those who are waited for no longer from now on: a recorder that is silent, any that is silent
    /// when nothing more will be sent (`ending`), and all of them a while after the end has been told
    /// (they are to hear of it).
    pub(crate) fn gone(&mut self, now: Instant, ending: bool, told: bool) -> Vec<String> {
        if told {
            self.ended.get_or_insert(now);
        }
        let over = self
            .ended
            .is_some_and(|at| now.duration_since(at) >= FAREWELL);
        let silent = |consumer: &str, heard: Instant| match consumer {
            RECORDER_INPUT => now.duration_since(heard) >= RECORDER_SILENCE,
            _ => ending && now.duration_since(heard) >= SILENCE,
        };
        let mut gone = Vec::new();
        for (consumer, heard) in &self.consumers {
            let silent = silent(consumer, *heard);
            if silent {
                tracing::warn!(consumer, "says nothing: going on without it");
            }
            if silent || over {
                gone.push(consumer.clone());
            }
        }
        gone.iter().for_each(|consumer| self.dismiss(consumer));
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    fn informal(names: &[&str], start: Instant) -> Informal {
        Informal::new(names.iter().map(ToString::to_string).collect(), start)
    }

    fn word() -> Credit {
        Credit {
            window: 8,
            ..farewell()
        }
    }

    #[test]
    fn silent_consumers_are_waited_for_as_long_as_makes_sense() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut both = informal(&[RECORDER_INPUT, "credit_buffer"], start);
        assert!(both.gone(after(29), false, false).is_empty());
        assert!(both.heard(RECORDER_INPUT, &word(), after(20)));
        assert!(both.gone(after(49), false, false).is_empty());
        assert_eq!(both.gone(after(50), false, false), [RECORDER_INPUT]);
        assert!(
            !both.heard(RECORDER_INPUT, &word(), after(51)),
            "it speaks in vain"
        );
        assert!(
            both.gone(start + START, false, false).is_empty(),
            "it may be at work"
        );
        assert!(both.heard("credit_buffer", &word(), start + START));
        let end = start + START + SILENCE;
        assert_eq!(both.gone(end, true, false), ["credit_buffer"]);
        assert!(
            both.heard("credit_tracker", &word(), end),
            "dora tells of its end"
        );
    }

    #[test]
    fn all_are_told_of_the_end_and_those_who_say_farewell_need_not_be() {
        let start = Instant::now();
        let mut both = informal(&["credit_a", "credit_b"], start);
        assert!(both.gone(start, true, true).is_empty());
        assert!(!both.heard("credit_a", &farewell(), start));
        assert!(!both.heard("credit_a", &word(), start));
        assert_eq!(both.gone(start + FAREWELL, true, true), ["credit_b"]);
        assert!(
            both.heard("credit_c", &farewell(), start),
            "a declared edge"
        );
    }
}
