//! From questions to calls and back to answers: cache, twins, queue, batches, rate, retries, breaker.
//!
//! Plain data and decisions: the caller says what time it is, makes the calls that [`Scheduler::poll`]
//! returns, and tells how they ended.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use tracklens_schemas::Outcome;

use crate::call_error::{CallError, PictureError};
use crate::circuit_breaker::{CircuitBreaker, Rules, State};
use crate::counts::Counts;
use crate::hash_cache::{Answer, HashCache};
use crate::hash_index::HashIndex;
use crate::perceptual_hash::PerceptualHash;
use crate::question::{Answered, Call, CallResult, Question};
use crate::retry::RetryRules;
use crate::token_bucket::{Token, TokenBucket};

/// What a scheduler is to keep to.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most pictures in a call.
    pub batch_size: usize,
    /// How long a picture waits for others.
    pub batch_wait: Duration,
    /// Most pictures that wait; beyond, the oldest is dropped.
    pub queue: usize,
    /// Most calls on their way at once.
    pub calls_at_once: usize,
    /// Most calls in any second; `None`: no limit.
    pub rate_limit: Option<usize>,
    /// A process before this one may have used up the rate.
    pub restarted: bool,
    /// Failed calls.
    pub retry: RetryRules,
    /// A service that does not work.
    pub breaker: Rules,
    /// A picture that looks like one that waits is not asked by itself.
    pub dedup: bool,
    /// Answers remembered.
    pub cache_size: usize,
    /// Bits in which pictures that look alike may differ.
    pub radius: u32,
    /// Where the scatter of retries begins.
    pub seed: u64,
}

/// A question and those that look like it.
#[derive(Debug)]
struct Group {
    first: Question,
    twins: Vec<Question>,
    since: Duration,
    not_before: Duration,
    attempts: u8,
    failures: u8,
}

#[derive(Debug)]
struct Flight {
    groups: Vec<u64>,
    token: Option<Token>,
    started: Duration,
}

/// Decides what is asked when.
#[derive(Debug)]
pub struct Scheduler {
    options: Options,
    cache: HashCache,
    bucket: Option<TokenBucket>,
    breaker: CircuitBreaker,
    paused_until: Duration,
    /// 429s in a row.
    refusals: u8,
    groups: BTreeMap<u64, Group>,
    queue: VecDeque<u64>,
    flights: HashMap<u64, Flight>,
    twins: HashIndex,
    by_hash: HashMap<PerceptualHash, u64>,
    next: u64,
    random: fastrand::Rng,
    answered: Vec<Answered>,
    counts: Counts,
}

impl Scheduler {
    /// Nothing waits yet.
    #[must_use]
    pub fn new(options: Options, now: Duration) -> Self {
        let used_before = options.restarted.then_some(now);
        Self {
            cache: HashCache::new(options.cache_size, options.radius),
            bucket: options
                .rate_limit
                .map(|limit| TokenBucket::new(limit, used_before)),
            breaker: CircuitBreaker::new(options.breaker),
            paused_until: Duration::ZERO,
            refusals: 0,
            groups: BTreeMap::new(),
            queue: VecDeque::new(),
            flights: HashMap::new(),
            twins: HashIndex::new(options.radius),
            by_hash: HashMap::new(),
            next: 0,
            random: fastrand::Rng::with_seed(options.seed),
            answered: Vec::new(),
            counts: Counts::default(),
            options,
        }
    }

    /// The answers remembered.
    pub fn cache(&mut self) -> &mut HashCache {
        &mut self.cache
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Where the breaker is.
    #[must_use]
    pub fn breaker(&self) -> State {
        self.breaker.state()
    }

    /// Pictures that wait to be sent.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits and no call is on its way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.groups.is_empty()
    }

    /// Questions that have no answer yet.
    pub fn open(&self) -> impl Iterator<Item = &Question> {
        self.groups
            .values()
            .flat_map(|group| std::iter::once(&group.first).chain(&group.twins))
    }

    /// What became of questions since the last call.
    pub fn take_answered(&mut self) -> Vec<Answered> {
        std::mem::take(&mut self.answered)
    }

    /// A question: answered at once where the cache can, else it waits.
    pub fn ask(&mut self, question: Question, now: Duration) {
        if let Some(hash) = question.hash {
            let answer = self.cache.get(hash).cloned();
            self.counts.looked_up(answer.is_some());
            if let Some(answer) = answer {
                self.answer(question, answer, true, 0);
                return;
            }
            if self.options.dedup
                && let Some(twin) = self.twins.nearest(hash)
                && let Some(group) = self
                    .by_hash
                    .get(&twin)
                    .and_then(|id| self.groups.get_mut(id))
            {
                group.twins.push(question);
                self.counts.twin();
                return;
            }
        }
        let id = self.next;
        self.next += 1;
        if let Some(hash) = question.hash.filter(|_| self.options.dedup) {
            self.by_hash.insert(hash, id);
            self.twins.insert(hash);
        }
        let group = Group {
            first: question,
            twins: Vec::new(),
            since: now,
            not_before: Duration::ZERO,
            attempts: 0,
            failures: 0,
        };
        self.groups.insert(id, group);
        self.queue.push_back(id);
        self.bound();
    }

    fn bound(&mut self) {
        while self.queue.len() > self.options.queue.max(1) {
            if let Some(group) = self.queue.pop_front().and_then(|id| self.remove(id)) {
                self.give_up(group, None, None);
            }
        }
        self.counts.waiting(self.queue.len());
    }

    fn remove(&mut self, id: u64) -> Option<Group> {
        let group = self.groups.remove(&id)?;
        if let Some(hash) = group.first.hash
            && self.by_hash.get(&hash) == Some(&id)
        {
            self.by_hash.remove(&hash);
            self.twins.remove(hash);
        }
        Some(group)
    }

    /// The next call to make now, if any; to be asked until there is none. `hurry`: no more
    /// questions will come, so nothing waits for others.
    pub fn poll(&mut self, now: Duration, hurry: bool) -> Option<Call> {
        if self.flights.len() >= self.options.calls_at_once.max(1)
            || now < self.paused_until
            || !self.breaker.allows(now)
        {
            return None;
        }
        let batch = self.batch(now, hurry)?;
        let token = match &mut self.bucket {
            Some(bucket) => Some(bucket.take(now)?),
            None => None,
        };
        self.queue.retain(|id| !batch.contains(id));
        self.counts.waiting(self.queue.len());
        self.breaker.started();
        let id = self.next;
        self.next += 1;
        let groups = batch.iter().filter_map(|id| self.groups.get(id));
        let questions: Vec<Question> = groups.map(|group| group.first.clone()).collect();
        self.counts.batch(questions.len());
        self.flights.insert(
            id,
            Flight {
                groups: batch,
                token,
                started: now,
            },
        );
        Some(Call { id, questions })
    }

    /// The pictures of the next call, where it need not wait for more.
    fn batch(&self, now: Duration, hurry: bool) -> Option<Vec<u64>> {
        let size = self.options.batch_size.max(1);
        let ready = |id: &&u64| self.groups.get(id).is_some_and(|g| g.not_before <= now);
        let batch: Vec<u64> = self
            .queue
            .iter()
            .filter(ready)
            .take(size)
            .copied()
            .collect();
        let waited = |id: &u64| {
            let since = self.groups.get(id).map(|group| group.since);
            since.is_some_and(|since| since + self.options.batch_wait <= now)
        };
        let due = batch.len() == size || hurry || batch.iter().any(waited);
        (due && !batch.is_empty()).then_some(batch)
    }

    /// When [`Self::poll`] may have a call, if nothing else happens.
    #[must_use]
    pub fn wakes_at(&self, now: Duration) -> Option<Duration> {
        if self.flights.len() >= self.options.calls_at_once.max(1) {
            return None;
        }
        let times = self.queue.iter().filter_map(|id| self.groups.get(id));
        let times =
            times.map(|group| (group.since + self.options.batch_wait).max(group.not_before));
        let full = self.batch(now, false).is_some();
        let first = if full { Some(now) } else { times.min() };
        let free = self
            .bucket
            .as_ref()
            .map_or(now, |bucket| bucket.free_at(now));
        let allowed = self.breaker.allows_at().unwrap_or(now);
        first.map(|first| first.max(free).max(allowed).max(self.paused_until).max(now))
    }

    /// How a call ended.
    pub fn ended(&mut self, call: u64, result: CallResult, now: Duration) {
        let Some(flight) = self.flights.remove(&call) else {
            return;
        };
        if let (Some(bucket), Some(token)) = (&mut self.bucket, flight.token) {
            bucket.answered(token, now);
        }
        for id in &flight.groups {
            if let Some(group) = self.groups.get_mut(id) {
                group.attempts = group.attempts.saturating_add(1);
            }
        }
        let took = now.saturating_sub(flight.started);
        let result = match result {
            Ok(answers) if answers.len() != flight.groups.len() => Err(CallError::Malformed {
                expected: format!("{} answers", flight.groups.len()),
                found: answers.len().to_string(),
            }),
            other => other,
        };
        match result {
            Ok(answers) => {
                self.counts.call("ok", took);
                self.refusals = 0;
                if self.breaker.works() {
                    self.counts.closed();
                }
                let pairs: Vec<_> = flight.groups.into_iter().zip(answers).collect();
                // From the last to the first: what is asked again goes to the front of the queue.
                for (id, answer) in pairs.into_iter().rev() {
                    self.settle(id, answer, now);
                }
            }
            Err(error) => {
                self.counts.call(error.word(), took);
                self.fail(flight.groups, &error, now);
            }
        }
        self.bound();
        // Last to first above; first to last outside.
        self.answered.sort_by(|a, b| {
            let key = |x: &Answered| (x.question.header.id.clone(), x.question.object.clone());
            key(a).cmp(&key(b))
        });
    }

    fn settle(&mut self, id: u64, answer: Result<Answer, PictureError>, now: Duration) {
        match answer {
            Ok(answer) => {
                let Some(group) = self.remove(id) else { return };
                if let Some(hash) = group.first.hash {
                    self.cache.put(hash, answer.clone());
                }
                for twin in group.twins {
                    self.answer(twin, answer.clone(), true, 0);
                }
                self.answer(group.first, answer, false, group.attempts);
            }
            Err(error) => {
                let pause = self.options.retry.wait(1, &mut self.random);
                self.again(id, error.retryable, Some(pause), &error.said, now);
            }
        }
    }

    fn fail(&mut self, groups: Vec<u64>, error: &CallError, now: Duration) {
        // While it is only being found out whether the service works, no question suffers for it.
        let probe = self.breaker.state() == State::HalfOpen;
        if error.is_the_service() {
            if self.breaker.fails(now) {
                self.counts.opened(&error.to_string());
            }
        } else if self.breaker.works() {
            self.counts.closed();
        }
        let limited = matches!(error, CallError::RateLimited { .. });
        self.refusals = self.refusals.saturating_add(u8::from(limited));
        let wait = error
            .wait()
            .or_else(|| limited.then(|| self.options.retry.wait(self.refusals, &mut self.random)));
        if let Some(wait) = wait {
            self.paused_until = self.paused_until.max(now + wait);
        }
        let said = error.to_string();
        // One pause for all: what was sent together comes back together.
        let failures = groups
            .iter()
            .filter_map(|id| self.groups.get(id))
            .map(|group| group.failures);
        let pause = self
            .options
            .retry
            .wait(failures.max().unwrap_or(0) + 1, &mut self.random);
        let pause = (!limited && !probe).then_some(pause);
        for id in groups.into_iter().rev() {
            self.again(id, error.is_retryable(), pause, &said, now);
        }
    }

    /// Asks again after a pause, unless that is no use or was done often enough. Without a pause it
    /// does not count as one of the attempts that a question has.
    fn again(
        &mut self,
        id: u64,
        retryable: bool,
        pause: Option<Duration>,
        said: &str,
        now: Duration,
    ) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        group.failures = group.failures.saturating_add(u8::from(pause.is_some()));
        if retryable && group.failures <= self.options.retry.attempts {
            group.not_before = now + pause.unwrap_or_default();
            self.counts.retried();
            self.queue.push_front(id);
        } else if let Some(group) = self.remove(id) {
            self.give_up(group, Some(Outcome::Failed), Some(said));
        }
    }

    fn answer(&mut self, question: Question, answer: Answer, cached: bool, attempts: u8) {
        let known = answer.is_known();
        self.counts.answered(cached);
        self.answered.push(Answered {
            question,
            outcome: Some(if known {
                Outcome::Identified
            } else {
                Outcome::Unknown
            }),
            answer,
            cached,
            attempts,
            error: None,
        });
    }

    fn give_up(&mut self, group: Group, outcome: Option<Outcome>, said: Option<&str>) {
        for (question, attempts) in std::iter::once((group.first, group.attempts))
            .chain(group.twins.into_iter().map(|twin| (twin, 0)))
        {
            match outcome {
                Some(_) => self.counts.failed(),
                None => self.counts.dropped(),
            }
            self.answered.push(Answered {
                question,
                outcome,
                answer: Answer::default(),
                cached: false,
                attempts,
                error: said.map(Into::into),
            });
        }
    }

    /// Gives up whatever `which` picks of the questions that wait: they failed, with this reason.
    pub fn abandon(&mut self, which: impl Fn(&Question) -> bool, said: &str) {
        let ids: Vec<u64> = self.groups.keys().copied().collect();
        for id in ids {
            let Some(group) = self.groups.get_mut(&id) else {
                continue;
            };
            let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut group.twins)
                .into_iter()
                .partition(|twin| which(twin));
            group.twins = kept;
            let mut given_up: Vec<(Question, u8)> =
                gone.into_iter().map(|twin| (twin, 0)).collect();
            if which(&group.first) {
                given_up.push((group.first.clone(), group.attempts));
                if group.twins.is_empty() {
                    self.remove(id);
                    self.queue.retain(|other| *other != id);
                } else {
                    // A twin takes its place: the same hash, hence the same entry in the index.
                    let hash = group.first.hash;
                    group.first = group.twins.remove(0);
                    group.first.hash = hash;
                }
            }
            for (first, attempts) in given_up {
                let group = Group {
                    first,
                    twins: Vec::new(),
                    since: Duration::ZERO,
                    not_before: Duration::ZERO,
                    attempts,
                    failures: 0,
                };
                self.give_up(group, Some(Outcome::Failed), Some(said));
            }
        }
        self.counts.waiting(self.queue.len());
    }
}

#[cfg(test)]
mod tests;
