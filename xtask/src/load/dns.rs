//! DNS questions for an address, and a server that knows one answer to all of them.

use super::Tally;
use anyhow::{Context, Result, bail, ensure};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use sys::datagrams::{Inbox, Outbox};

/// What is not answered by then is lost.
const PATIENCE: Duration = Duration::from_millis(500);
const HEADER: usize = 12;
/// No answer to one question for an address is longer.
const LONGEST_ANSWER: usize = 4096;
/// A name that is asked for is at most this long, in its wire form.
const LONGEST_NAME: usize = 255;
/// What the server answers: an address of TEST-NET-1.
const ADDRESS: [u8; 4] = [192, 0, 2, 1];

/// Answers every question with the same address.
pub(super) fn serve(own: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(own).with_context(|| format!("listen on {own}"))?;
    let mut buffer = [0; LONGEST_ANSWER];
    loop {
        let (size, peer) = socket
            .recv_from(&mut buffer)
            .context("receive a question")?;
        if let Some(answer) = answer(&buffer[..size]) {
            // a client that went away is no failure of the server
            drop(socket.send_to(&answer, peer));
        }
    }
}

/// The answer to a question: its own bytes, and one record.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let end = question_end(question)?;
    let mut answer = question[..end].to_vec();
    // a response, recursion desired and available, no error; one question, one answer, nothing else
    answer[2..HEADER].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    // the name is that of the question, type A, class IN, ten minutes, four bytes
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4]);
    answer.extend(ADDRESS);
    Some(answer)
}

/// Where the first question of a message ends.
fn question_end(message: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1 + length;
        if length == 0 {
            break;
        }
        if length > 63 || at > HEADER + LONGEST_NAME {
            return None;
        }
    }
    let end = at + 4;
    (end <= message.len()).then_some(end)
}

fn question(name: &str) -> Result<Vec<u8>> {
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).unwrap_or(u8::MAX);
        ensure!((1..=63).contains(&length), "invalid name {name:?}");
        message.push(length);
        message.extend(label.as_bytes());
    }
    ensure!(
        message.len() < HEADER + LONGEST_NAME,
        "invalid name {name:?}"
    );
    message.extend([0, 0, 1, 0, 1]);
    Ok(message)
}

/// Asks for a name's IPv4 address, with a number of questions under way.
pub(super) fn ask(server: SocketAddr, name: &str, at_once: u16, time: Duration) -> Result<Tally> {
    let mut asker = Asker::new(server, name, at_once)?;
    let begun = Instant::now();
    for slot in 0..at_once {
        asker.queue(slot);
    }
    asker.flush()?;
    while begun.elapsed() < time {
        asker.receive()?;
    }
    asker.tally.elapsed = begun.elapsed();
    Ok(asker.tally)
}

/// Questions under way: a question's number tells its slot, and how often that was used before.
///
/// Many datagrams go and come with one system call, so that it is the server that is measured.
struct Asker {
    socket: UdpSocket,
    server: SocketAddr,
    inbox: Inbox,
    outbox: Outbox,
    question: Vec<u8>,
    under_way: Vec<(u16, Instant)>,
    tally: Tally,
}

impl Asker {
    fn new(server: SocketAddr, name: &str, at_once: u16) -> Result<Self> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).context("make a socket")?;
        socket
            .connect(server)
            .with_context(|| format!("connect to {server}"))?;
        socket
            .set_read_timeout(Some(PATIENCE))
            .context("set a time limit")?;
        Ok(Self {
            socket,
            server,
            inbox: Inbox::new(LONGEST_ANSWER),
            outbox: Outbox::default(),
            question: question(name)?,
            under_way: (0..at_once).map(|slot| (slot, Instant::now())).collect(),
            tally: Tally::default(),
        })
    }

    fn slots(&self) -> u16 {
        u16::try_from(self.under_way.len()).unwrap_or(u16::MAX)
    }

    /// Asks anew in a slot, with the next flush.
    fn queue(&mut self, slot: u16) {
        let slots = self.slots();
        let entry = &mut self.under_way[usize::from(slot)];
        // past the end of the numbers the slot begins again at its own
        let number = entry.0.checked_add(slots).unwrap_or(slot);
        *entry = (number, Instant::now());
        self.question[..2].copy_from_slice(&number.to_be_bytes());
        self.outbox.push(&self.question, self.server);
    }

    fn flush(&mut self) -> Result<()> {
        let mut outbox = std::mem::take(&mut self.outbox);
        outbox.send(&self.socket).context("send questions")
    }

    /// Waits for an answer, and takes all that have come with it.
    fn receive(&mut self) -> Result<()> {
        let mut buffer = [0; LONGEST_ANSWER];
        match self.socket.recv(&mut buffer) {
            Ok(size) => self.take(&buffer[..size])?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.give_up(),
            Err(error) => return Err(error).context("receive an answer"),
        }
        let mut inbox = std::mem::replace(&mut self.inbox, Inbox::new(0));
        let more = match inbox.receive(&self.socket) {
            Ok(_) => inbox
                .datagrams()
                .try_for_each(|(answer, _)| self.take(answer)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error).context("receive answers"),
        };
        self.inbox = inbox;
        more?;
        self.flush()
    }

    fn take(&mut self, answer: &[u8]) -> Result<()> {
        ensure!(
            answer.len() >= HEADER,
            "an answer of {} bytes",
            answer.len()
        );
        let number = u16::from_be_bytes([answer[0], answer[1]]);
        let slot = number % self.slots();
        let (expected, sent) = self.under_way[usize::from(slot)];
        if number != expected {
            return Ok(()); // late: it was counted as lost
        }
        let (error, records) = (answer[3] & 0xf, u16::from_be_bytes([answer[6], answer[7]]));
        if error != 0 || records == 0 {
            bail!("an answer with code {error} and {records} records");
        }
        self.tally.taken.push(sent.elapsed());
        self.queue(slot);
        Ok(())
    }

    /// Nothing came for long: all that was under way is lost.
    fn give_up(&mut self) {
        for slot in 0..self.slots() {
            self.tally.lost += 1;
            self.queue(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers() {
        let asked = question("one.two.").unwrap();
        assert_eq!(question_end(&asked), Some(asked.len()));
        let answer = answer(&asked).unwrap();
        assert_eq!(&answer[answer.len() - 4..], ADDRESS);
        for broken in ["", "a..b", &"x".repeat(64), &"abc.".repeat(64)] {
            assert!(question(broken).is_err(), "{broken}");
        }
        assert_eq!(question_end(&asked[..asked.len() - 1]), None);
        assert_eq!(question_end(&[0xff; 40]), None);
    }

    #[test]
    fn over_a_socket() {
        let own: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let free = UdpSocket::bind(own).unwrap().local_addr().unwrap();
        std::thread::spawn(move || serve(free));
        std::thread::sleep(Duration::from_millis(100));
        let tally = ask(free, "www.example.org", 7, Duration::from_millis(50)).unwrap();
        assert!(tally.taken.len() > 7 && tally.lost == 0, "{tally:?}");
    }
}
