//! Messages that are sent together.

use logfile::Position;

/// Some messages, made of as many records.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    frames: Vec<Frame>,
    /// What the receiver has to say when it has them.
    pub(super) acknowledgement: Option<Vec<u8>>,
}

/// What goes into one datagram.
#[derive(Clone, Copy, Debug)]
struct Frame {
    end: usize,
    /// The place behind the record, with its last frame.
    place: Option<Position>,
}

impl Batch {
    /// Where a message is written to.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Ends a frame.
    pub(super) fn end_frame(&mut self) {
        self.frames.push(Frame {
            end: self.bytes.len(),
            place: None,
        });
    }

    /// Says that the last frame is a record's last.
    pub(super) fn end_record(&mut self, place: Option<Position>) {
        if let Some(frame) = self.frames.last_mut() {
            frame.place = place;
        }
    }

    /// Changes the last frame's first byte and writes more to its end.
    pub(super) fn amend_last(&mut self, first: u8, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(last) = self.frames.len().checked_sub(1) else {
            return;
        };
        let start = self.start(last);
        self.bytes[start] = first;
        write(&mut self.bytes);
        self.frames[last].end = self.bytes.len();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn frames(&self) -> usize {
        self.frames.len()
    }

    /// Everything from a frame on.
    pub(super) fn rest(&self, frame: usize) -> &[u8] {
        &self.bytes[self.start(frame)..]
    }

    /// One frame.
    pub(super) fn frame(&self, frame: usize) -> &[u8] {
        &self.bytes[self.start(frame)..self.frames[frame].end]
    }

    /// The place behind the last whole record before a frame.
    pub(super) fn place(&self, frame: usize) -> Option<Position> {
        self.frames[..frame].iter().rev().find_map(|f| f.place)
    }

    fn start(&self, frame: usize) -> usize {
        frame
            .checked_sub(1)
            .and_then(|before| self.frames.get(before))
            .map_or(0, |before| before.end)
    }
}
