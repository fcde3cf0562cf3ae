//! The task that answers what a container asks by UDP.
//!
//! One task owns all of it, the sockets to the name servers too: nothing is locked, no task is
//! made for a question, and each time it wakes it takes what has come, many at once.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::net::SendFlags;
use tokio::net::UdpSocket;
use tokio::time::{Instant, Sleep};

use super::Service;
use super::answer::{Scratch, Verdict, answer};
use super::dice::Dice;
use super::forward::{BATCH, Deliver, Forwarder};
use super::names::View;
use super::wire::Transport;

thread_local! {
    /// Room for the largest datagram there is, once a thread and not once a container.
    static ROOM: RefCell<Box<[u8]>> = RefCell::new(vec![0; 1 << 16].into_boxed_slice());
}

impl Deliver for UdpSocket {
    fn deliver(&self, client: SocketAddr, datagram: &[u8]) {
        // past tokio: it would first have to learn that the socket can be written
        let sent = rustix::net::sendto(self.as_fd(), datagram, SendFlags::NOSIGNAL, &client);
        if let Err(errno) = sent {
            tracing::trace!(%errno, "an answer is lost");
        }
    }
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
        let view = self.service.scope.view();
        let servers = self.service.servers(&view);
        self.forwarder
            .use_servers(servers, &mut self.dice, &self.socket);
        let more = ROOM.with_borrow_mut(|room| {
            let questions = self.take_questions(context, room, &view);
            let (dice, socket) = (&mut self.dice, &self.socket);
            let answers = self.forwarder.take_answers(context, room, dice, socket);
            questions || answers
        });
        if self.take_time(context) || more {
            // after the other tasks have had their turn
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Answers or forwards what has come, up to a bound; tells whether there may be more.
    fn take_questions(&mut self, context: &mut Context<'_>, room: &mut [u8], view: &View) -> bool {
        let mut left = BATCH;
        loop {
            // an error of a socket that is not connected is not for us to end by
            if self.socket.poll_recv_ready(context).is_pending() {
                return false;
            }
            while let Ok((length, client)) = self.socket.try_recv_from(room) {
                self.question(&room[..length], client, view);
                left -= 1;
                if left == 0 {
                    return true;
                }
            }
        }
    }

    fn question(&mut self, query: &[u8], client: SocketAddr, view: &View) {
        let (dice, scratch) = (&mut self.dice, &mut self.scratch);
        match answer(query, Transport::Udp, view, dice, scratch) {
            Verdict::Ignored => return,
            Verdict::Answered => {}
            Verdict::Forward(question) => {
                let taken = self
                    .forwarder
                    .accept(query, &question, client, dice, &self.socket);
                let Err(code) = taken else {
                    return;
                };
                question.failure(query, code, &mut scratch.out);
            }
        }
        self.socket.deliver(client, &scratch.out);
    }

    /// Does what is due and arranges to be woken for the rest; tells whether something was done.
    fn take_time(&mut self, context: &mut Context<'_>) -> bool {
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
        self.forwarder
            .tick(Instant::now(), &mut self.dice, &self.socket);
        self.sleep = None;
        true
    }
}
