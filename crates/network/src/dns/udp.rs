//! The task that answers what a container asks by UDP.
//!
//! One task owns all of it, the sockets to the name servers too: nothing is locked, no task is
//! made for a question, and each time it wakes it takes what has come, many at once.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use sys::datagrams::{Inbox, MOST, Outbox};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, Sleep};

use super::Service;
use super::answer::{Scratch, Verdict, answer};
use super::dice::Dice;
use super::forward::Forwarder;
use super::names::View;
use super::wire::{LARGEST_DATAGRAM, Transport};

/// Room for what goes in and out, once a thread and not once a container.
struct Room {
    questions: Inbox,
    /// For the largest datagram there is.
    reply: Box<[u8]>,
    answers: Outbox,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::new(Room {
        questions: Inbox::new(usize::from(LARGEST_DATAGRAM)),
        reply: vec![0; 1 << 16].into_boxed_slice(),
        answers: Outbox::default(),
    });
}

/// Serves until it is aborted.
pub(super) async fn serve(service: Arc<Service>, socket: UdpSocket) {
    let mut task = Task {
        forwarder: Forwarder::new(Arc::clone(&service)),
        service,
        socket,
        dice: Dice::default(),
        scratch: Scratch::default(),
        sleep: None,
    };
    poll_fn(|context| task.turn(context)).await;
}

struct Task {
    service: Arc<Service>,
    socket: UdpSocket,
    forwarder: Forwarder,
    dice: Dice,
    scratch: Scratch,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Task {
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let more = ROOM.with_borrow_mut(|room| {
            let more = self.work(context, room);
            // past tokio, which would first have to learn that the socket can be written
            if !room.answers.is_empty()
                && let Err(error) = room.answers.send(&self.socket)
            {
                tracing::trace!(?error, "answers are lost");
            }
            more
        });
        if more {
            // after the other tasks have had their turn
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Does what there is to do, up to a bound; tells whether there may be more.
    fn work(&mut self, context: &mut Context<'_>, room: &mut Room) -> bool {
        let view = self.service.scope.view();
        let servers = self.service.servers(&view);
        let Room {
            questions,
            reply,
            answers: to,
        } = room;
        self.forwarder.use_servers(servers, &mut self.dice, to);
        let asked = self.take_questions(context, questions, to, &view);
        let dice = &mut self.dice;
        let answered = self.forwarder.take_answers(context, reply, dice, to);
        self.take_time(context, to) || asked || answered
    }

    /// Answers or forwards what has come, up to a bound; tells whether there may be more.
    fn take_questions(
        &mut self,
        context: &mut Context<'_>,
        questions: &mut Inbox,
        to: &mut Outbox,
        view: &View,
    ) -> bool {
        // an error of a socket that is not connected is not for us to end by
        while self.socket.poll_recv_ready(context).is_ready() {
            let socket = &self.socket;
            let received = socket.try_io(Interest::READABLE, || questions.receive(socket));
            let Ok(count) = received else {
                continue;
            };
            self.service.asked(count);
            for (query, client) in questions.datagrams() {
                self.question(query, client, to, view);
            }
            if count == MOST {
                return true;
            }
        }
        false
    }

    fn question(&mut self, query: &[u8], client: SocketAddr, to: &mut Outbox, view: &View) {
        let (dice, scratch) = (&mut self.dice, &mut self.scratch);
        match answer(query, Transport::Udp, view, dice, scratch) {
            Verdict::Ignored => return,
            Verdict::Answered => {}
            Verdict::Forward(question) => {
                let taken = self.forwarder.accept(query, &question, client, dice, to);
                let Err(code) = taken else {
                    return;
                };
                question.failure(query, code, &mut scratch.out);
            }
        }
        to.push(&scratch.out, client);
    }

    /// Does what is due and arranges to be woken for the rest; tells whether something was done.
    fn take_time(&mut self, context: &mut Context<'_>, to: &mut Outbox) -> bool {
        let Some(time) = self.forwarder.next_time() else {
            self.sleep = None;
            return false;
        };
        let sleep = match &mut self.sleep {
            Some(sleep) => sleep,
            none => none.insert(Box::pin(tokio::time::sleep_until(time))),
        };
        // an early awakening costs less than to set the timer for every question
        if sleep.deadline() > time {
            sleep.as_mut().reset(time);
        }
        if sleep.as_mut().poll(context).is_pending() {
            return false;
        }
        self.forwarder.tick(Instant::now(), &mut self.dice, to);
        self.sleep = None;
        true
    }
}
