//! Questions that came by UDP and are under way to the name servers.
//!
//! A question goes to the first server at once, to the next after a second or as soon as one
//! fails, and fails itself after four; all answers that are still on their way remain welcome. The
//! same question asked again meanwhile waits for the same answer. That is also what ends a loop:
//! where a server asks us in turn what we have asked it, nothing more is sent.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use sys::datagrams::Outbox;
use tokio::time::Instant;

use super::dice::Dice;
use super::upstream::{Flight, Sent, Server, Word};
use super::wire::{Code, HEADER, Question, Reply, Transport, failure, hand_on, judge};
use super::{Servers, Service};

/// How long a server has before the next one is asked too.
const STEP: Duration = Duration::from_secs(1);
/// So many steps a question has, as with Docker; glibc's clients wait five seconds.
const STEPS: u8 = 4;
/// So many clients of one container wait at the same time, as with Docker.
const MOST_WAITING: usize = 1024;
/// Sockets are closed when nothing was asked for so long.
const IDLE: Duration = Duration::from_secs(10);

/// A client that waits.
#[derive(Debug)]
struct Waiter {
    client: SocketAddr,
    id: u16,
    room: usize,
    /// Its spelling of the question, where that differs from the one that was sent.
    question: Option<Box<[u8]>>,
}

/// A question that is under way.
#[derive(Debug)]
struct Asked {
    /// The query without its id.
    tail: Box<[u8]>,
    key: Box<[u8]>,
    /// Where the question ends, counted with the id.
    end: usize,
    waiters: Vec<Waiter>,
    sent: Vec<Sent>,
    /// Servers that were asked, and those that failed, a bit each.
    asked: u8,
    failed: u8,
    steps: u8,
}

/// The questions of one container.
pub(super) struct Forwarder {
    service: Arc<Service>,
    from: Servers,
    servers: Vec<Server>,
    flights: HashMap<Flight, Asked>,
    same: HashMap<Box<[u8]>, Flight>,
    due: VecDeque<(Instant, Flight)>,
    next: Flight,
    waiting: usize,
    last: Instant,
    room: Vec<u8>,
    /// A socket may have become one to watch since all were polled.
    sent: bool,
}

impl Forwarder {
    pub(super) fn new(service: Arc<Service>) -> Self {
        let from = Servers {
            place: super::Place::Host,
            list: Arc::from([]),
        };
        Self {
            service,
            from,
            servers: Vec::new(),
            flights: HashMap::new(),
            same: HashMap::new(),
            due: VecDeque::new(),
            next: 0,
            waiting: 0,
            last: Instant::now(),
            room: Vec::new(),
            sent: false,
        }
    }

    /// Asks these servers from now on, also what is under way.
    pub(super) fn use_servers(&mut self, servers: Servers, dice: &mut Dice, to: &mut Outbox) {
        if Arc::ptr_eq(&self.from.list, &servers.list) && self.from.place == servers.place {
            return;
        }
        let changed = self.from != servers;
        self.from = servers;
        if !changed {
            return;
        }
        let addresses = self.from.list.iter();
        self.servers = addresses.map(|address| Server::new(*address)).collect();
        let flights: Vec<Flight> = self.flights.keys().copied().collect();
        for flight in flights {
            if let Some(question) = self.flights.get_mut(&flight) {
                question.sent.clear();
                (question.asked, question.failed) = (0, 0);
            }
            self.ask_next(flight, dice, to);
        }
    }

    /// Takes a question over, or says why not.
    pub(super) fn accept(
        &mut self,
        query: &[u8],
        question: &Question,
        client: SocketAddr,
        dice: &mut Dice,
        to: &mut Outbox,
    ) -> Result<(), Code> {
        if self.servers.is_empty() {
            return Err(Code::ServerFailure);
        }
        if self.waiting >= MOST_WAITING {
            return Err(Code::Refused);
        }
        self.waiting += 1;
        let tail = &query[2..];
        let mut waiter = Waiter {
            client,
            id: question.id,
            room: question.room(Transport::Udp),
            question: None,
        };
        let key = key(tail, question.end);
        if let Some(earlier) = self.same.get(&key).and_then(|id| self.flights.get_mut(id)) {
            if *earlier.tail != *tail {
                waiter.question = Some(tail.into());
            }
            earlier.waiters.push(waiter);
            return Ok(());
        }
        let flight = self.next;
        self.next += 1;
        self.same.insert(key.clone(), flight);
        let question = Asked {
            tail: tail.into(),
            key,
            end: question.end,
            waiters: vec![waiter],
            sent: Vec::new(),
            asked: 0,
            failed: 0,
            steps: 0,
        };
        self.flights.insert(flight, question);
        self.last = Instant::now();
        self.due.push_back((self.last + STEP, flight));
        self.ask_next(flight, dice, to);
        Ok(())
    }

    /// Asks the next server that was not asked yet, one that answered lately before one that did
    /// not; when there is none left and all failed, so does the question.
    fn ask_next(&mut self, flight: Flight, dice: &mut Dice, to: &mut Outbox) {
        let Some(question) = self.flights.get_mut(&flight) else {
            return;
        };
        loop {
            let asked = question.asked;
            let left = (0..self.servers.len()).filter(|index| asked & 1 << index == 0);
            let Some(index) = left.min_by_key(|index| self.servers[*index].slow) else {
                if question.failed.count_ones() as usize == self.servers.len() {
                    self.fail(flight, to);
                }
                return;
            };
            question.asked |= 1 << index;
            let place = (self.from.place, self.service.namespace.as_fd());
            let server = &mut self.servers[index];
            match server.send(flight, &question.tail, place, dice, &mut self.room) {
                Ok(port) => {
                    question.sent.push(Sent::new(index, port));
                    self.sent = true;
                    return;
                }
                Err(error) => {
                    tracing::debug!(?error, "cannot ask a name server");
                    question.failed |= 1 << index;
                }
            }
        }
    }

    /// Asks again who has not failed, for datagrams get lost.
    fn ask_again(&mut self, flight: Flight, dice: &mut Dice) {
        let Some(question) = self.flights.get_mut(&flight) else {
            return;
        };
        for (index, server) in self.servers.iter_mut().enumerate() {
            if question.failed & 1 << index != 0 {
                continue;
            }
            let place = (self.from.place, self.service.namespace.as_fd());
            if let Ok(port) = server.send(flight, &question.tail, place, dice, &mut self.room) {
                question.sent.push(Sent::new(index, port));
                self.sent = true;
            }
        }
    }

    /// Takes what the servers' sockets have, up to a bound; tells whether there may be more.
    pub(super) fn take_answers(
        &mut self,
        context: &mut Context<'_>,
        room: &mut [u8],
        dice: &mut Dice,
        to: &mut Outbox,
    ) -> bool {
        self.sent = false;
        let mut left = BATCH;
        for index in 0..self.servers.len() {
            while let Poll::Ready(word) = self.servers[index].poll(context, room) {
                match word {
                    Word::Datagram(flight, length) => {
                        self.datagram(index, flight, &mut room[..length], dice, to);
                    }
                    Word::Unreachable(flights) => {
                        for flight in flights {
                            self.server_failed(index, flight, dice, to);
                        }
                    }
                }
                left -= 1;
                if left == 0 {
                    return true;
                }
            }
        }
        self.sent
    }

    fn datagram(
        &mut self,
        server: usize,
        flight: Flight,
        reply: &mut [u8],
        dice: &mut Dice,
        to: &mut Outbox,
    ) {
        let Some(question) = self.flights.get(&flight) else {
            return;
        };
        match judge(&question.tail, question.end, reply) {
            Reply::Strange => {}
            Reply::Failure => self.server_failed(server, flight, dice, to),
            Reply::Answer => {
                self.servers[server].slow = false;
                self.finish(flight, reply, to);
            }
        }
    }

    fn server_failed(&mut self, server: usize, flight: Flight, dice: &mut Dice, to: &mut Outbox) {
        if let Some(question) = self.flights.get_mut(&flight) {
            question.failed |= 1 << server;
            let servers = &mut self.servers;
            question.sent.retain(|sent| {
                let other = sent.server != server;
                if !other {
                    sent.forget(servers);
                }
                other
            });
            self.ask_next(flight, dice, to);
        }
    }

    fn finish(&mut self, flight: Flight, reply: &mut [u8], to: &mut Outbox) {
        let Some(question) = self.remove(flight) else {
            return;
        };
        let mut header = [0; HEADER];
        header.copy_from_slice(&reply[..HEADER]);
        for waiter in &question.waiters {
            // one client may have less room than the next
            reply[..HEADER].copy_from_slice(&header);
            let tail = waiter.question.as_deref().unwrap_or(&question.tail);
            let length = hand_on(waiter.id, tail, question.end, waiter.room, reply);
            to.push(&reply[..length], waiter.client);
        }
    }

    fn fail(&mut self, flight: Flight, to: &mut Outbox) {
        let Some(question) = self.remove(flight) else {
            return;
        };
        for waiter in &question.waiters {
            let tail = waiter.question.as_deref().unwrap_or(&question.tail);
            let code = Code::ServerFailure;
            failure(waiter.id, tail, question.end, code, &mut self.room);
            to.push(&self.room, waiter.client);
        }
    }

    fn remove(&mut self, flight: Flight) -> Option<Asked> {
        let question = self.flights.remove(&flight)?;
        self.same.remove(&question.key);
        self.waiting -= question.waiters.len();
        for sent in &question.sent {
            sent.forget(&mut self.servers);
        }
        Some(question)
    }

    /// Returns when something is to be done next.
    pub(super) fn next_time(&self) -> Option<Instant> {
        if let Some((due, _)) = self.due.front() {
            return Some(*due);
        }
        let open = self.servers.iter().any(Server::is_open);
        open.then(|| self.last + IDLE)
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant, dice: &mut Dice, to: &mut Outbox) {
        while let Some((due, flight)) = self.due.front().copied() {
            if due > now {
                break;
            }
            self.due.pop_front();
            self.step(flight, due, dice, to);
        }
        if self.flights.is_empty() && self.last + IDLE <= now {
            self.servers.iter_mut().for_each(Server::close);
            self.room = Vec::new();
        }
    }

    fn step(&mut self, flight: Flight, due: Instant, dice: &mut Dice, to: &mut Outbox) {
        let Some(question) = self.flights.get_mut(&flight) else {
            return;
        };
        question.steps += 1;
        for sent in &question.sent {
            self.servers[sent.server].slow = true;
        }
        if question.steps >= STEPS {
            return self.fail(flight, to);
        }
        let left = self.servers.len() - question.asked.count_ones() as usize;
        // all of them have their turn before the last step
        let now = left.div_ceil(usize::from(STEPS - question.steps));
        self.due.push_back((due + STEP, flight));
        for _ in 0..now {
            self.ask_next(flight, dice, to);
        }
        if left == 0 {
            self.ask_again(flight, dice);
        }
    }
}

/// So many datagrams are taken before other tasks have their turn.
const BATCH: usize = 64;

/// Makes what is the same for the same question: its bytes but the id and the case of the name.
fn key(tail: &[u8], end: usize) -> Box<[u8]> {
    let mut key: Box<[u8]> = tail.into();
    key[HEADER - 2..end - 6].make_ascii_lowercase();
    key
}
