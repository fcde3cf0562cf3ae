//! What a container asks by TCP: long answers, and clients that prefer it.
//!
//! Connections, and questions under way, are bounded a container; whoever holds a connection
//! without using it loses it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::SocketType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::answer::{Scratch, Verdict, answer};
use super::dice::Dice;
use super::upstream::sockets;
use super::wire::{Code, LARGEST_DATAGRAM, Question, Reply, Transport, hand_on, judge};
use super::{Servers, Service};

/// So many connections a container has; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 32;
/// So many questions of one connection are under way at the same time.
const MOST_UNDER_WAY: usize = 8;
/// A connection that stays silent for so long is closed (RFC 7766, 6.2.3).
const SILENCE: Duration = Duration::from_secs(10);
/// How long all servers together have.
const BUDGET: Duration = Duration::from_secs(4);
/// How long a server has before the next one is asked too.
const STEP: Duration = Duration::from_secs(1);
/// After a failure to take a connection, such as for want of descriptors.
const BREATHER: Duration = Duration::from_millis(100);

/// Takes connections until it is aborted, which ends them all.
pub(super) async fn serve(service: Arc<Service>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = Arc::clone(&service);
                connections.spawn(async move {
                    let end = connection(service, stream).await;
                    tracing::trace!(?end, "a connection to the resolver ends");
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(?error, "cannot take a connection to the resolver");
                sleep(BREATHER).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(service: Arc<Service>, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.split();
    let mut desk = Desk {
        service,
        dice: Dice::default(),
        scratch: Scratch::default(),
        under_way: JoinSet::new(),
    };
    let mut input = Vec::new();
    loop {
        while desk.under_way.len() < MOST_UNDER_WAY
            && let Some(query) = next_frame(&mut input)?
        {
            if let Some(answer) = desk.question(&query) {
                write_frame(&mut writer, answer).await?;
            }
        }
        let idle = desk.under_way.is_empty();
        tokio::select! {
            read = reader.read_buf(&mut input), if desk.under_way.len() < MOST_UNDER_WAY => {
                if read? == 0 {
                    break;
                }
            }
            Some(done) = desk.under_way.join_next() => {
                if let Ok(answer) = done {
                    write_frame(&mut writer, &answer).await?;
                }
            }
            () = sleep(SILENCE), if idle => return Ok(()),
        }
    }
    // a client may close its side and still wait for answers
    while let Some(done) = desk.under_way.join_next().await {
        if let Ok(answer) = done {
            write_frame(&mut writer, &answer).await?;
        }
    }
    Ok(())
}

/// Splits the first whole query off; longer ones than any client writes end the connection.
fn next_frame(input: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let Some(head) = input.get(..2) else {
        return Ok(None);
    };
    let length = u16::from_be_bytes([head[0], head[1]]);
    if length > LARGEST_DATAGRAM {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let end = 2 + usize::from(length);
    if input.len() < end {
        return Ok(None);
    }
    let query = input[2..end].to_vec();
    input.drain(..end);
    Ok(Some(query))
}

async fn write_frame(writer: &mut (impl AsyncWriteExt + Unpin), answer: &[u8]) -> io::Result<()> {
    let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(answer.len() + 2);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(answer);
    timeout(SILENCE, writer.write_all(&frame)).await?
}

/// The state of one connection.
struct Desk {
    service: Arc<Service>,
    dice: Dice,
    scratch: Scratch,
    under_way: JoinSet<Vec<u8>>,
}

impl Desk {
    /// Answers a query, or sends it on its way.
    fn question(&mut self, query: &[u8]) -> Option<&[u8]> {
        self.service.asked(1);
        let view = self.service.scope.view();
        let (dice, scratch) = (&mut self.dice, &mut self.scratch);
        match answer(query, Transport::Tcp, &view, dice, scratch) {
            Verdict::Ignored => None,
            Verdict::Answered => Some(&scratch.out),
            Verdict::Forward(question) => {
                let servers = self.service.servers(&view);
                let id = dice.number().unwrap_or(question.id);
                let asking = Asking {
                    service: Arc::clone(&self.service),
                    query: query.to_vec(),
                    end: question.end,
                    id,
                };
                self.under_way.spawn(forward(asking, servers, question));
                None
            }
        }
    }
}

/// A question and all that is needed to ask it.
#[derive(Clone)]
struct Asking {
    service: Arc<Service>,
    query: Vec<u8>,
    end: usize,
    id: u16,
}

/// Asks the servers as [`super::forward`] does, but by TCP.
async fn forward(asking: Asking, servers: Servers, question: Question) -> Vec<u8> {
    let query = asking.query.clone();
    match timeout(BUDGET, ask_all(asking, servers)).await {
        Ok(Some(mut reply)) => {
            let room = question.room(Transport::Tcp);
            let length = hand_on(question.id, &query[2..], question.end, room, &mut reply);
            reply.truncate(length);
            reply
        }
        _ => {
            let mut out = Vec::new();
            question.failure(&query, Code::ServerFailure, &mut out);
            out
        }
    }
}

async fn ask_all(asking: Asking, servers: Servers) -> Option<Vec<u8>> {
    let count = u32::try_from(servers.list.len()).ok()?;
    let step = STEP.min(BUDGET / count.max(1));
    let mut attempts = JoinSet::new();
    let mut left = servers.list.iter();
    loop {
        match left.next() {
            Some(server) => {
                attempts.spawn(ask(asking.clone(), servers.clone(), *server));
            }
            None if attempts.is_empty() => return None,
            None => {}
        }
        let patience = if left.len() == 0 { BUDGET } else { step };
        if let Ok(Some(Ok(Ok(reply)))) = timeout(patience, attempts.join_next()).await {
            return Some(reply);
        }
    }
}

async fn ask(asking: Asking, servers: Servers, server: SocketAddr) -> io::Result<Vec<u8>> {
    let namespace = asking.service.namespace.as_fd();
    let made = sockets(servers.place, namespace, server, SocketType::STREAM, 1)?;
    let socket = made.into_iter().next().ok_or(io::ErrorKind::NotFound)?;
    let socket = TcpSocket::from_std_stream(socket.into());
    let mut stream = socket.connect(server).await?;
    let mut query = asking.query;
    query[..2].copy_from_slice(&asking.id.to_be_bytes());
    write_frame(&mut stream, &query).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await?;
    let same_id = reply.get(..2) == Some(&query[..2]);
    match judge(&query[2..], asking.end, &reply) {
        Reply::Answer if same_id => Ok(reply),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
