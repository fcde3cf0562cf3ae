//! An assembler for classic BPF that writes from the end.
//!
//! Classic BPF only jumps forward, and a comparison at most 255 instructions far. Writing the last instruction
//! first, every target is known when a jump to it is written, and where it is too far a `JA` comes between.

use std::collections::HashMap;

use sys::seccomp::Instruction;

const LD_W_ABS: u16 = 0x20;
const ALU_AND_K: u16 = 0x54;
const JMP_JA: u16 = 0x05;
const JMP_JEQ_K: u16 = 0x15;
const JMP_JGT_K: u16 = 0x25;
const JMP_JGE_K: u16 = 0x35;
const RET_K: u16 = 0x06;

/// A comparison reaches 255 instructions far; two `JA` for its own two targets may still come between.
const REACH: usize = 253;

/// A comparison of the accumulator with a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Equal(u32),
    Greater(u32),
    GreaterOrEqual(u32),
}

/// Where a jump goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An instruction that is written already, by its place from the end.
    Label(usize),
    /// The end of the filter, with this answer.
    Return(u32),
}

/// A program that grows at its start.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    reversed: Vec<Instruction>,
    /// The last place where each answer was written.
    returns: HashMap<u32, usize>,
}

impl Assembler {
    /// Writes a comparison and tells its label.
    pub(super) fn test(&mut self, test: Test, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        let yes = self.place(yes);
        let no = self.place(no);
        let (code, k) = match test {
            Test::Equal(k) => (JMP_JEQ_K, k),
            Test::Greater(k) => (JMP_JGT_K, k),
            Test::GreaterOrEqual(k) => (JMP_JGE_K, k),
        };
        let (jt, jf) = (self.short(yes), self.short(no));
        self.write(Instruction { code, jt, jf, k })
    }

    /// Writes a load of the word at `offset` of `seccomp_data`, after which `next` runs.
    pub(super) fn load(&mut self, offset: u32, next: Target) -> Target {
        self.fall_into(next);
        self.write(Instruction {
            code: LD_W_ABS,
            jt: 0,
            jf: 0,
            k: offset,
        })
    }

    /// Writes a mask on the accumulator, after which `next` runs.
    pub(super) fn and(&mut self, mask: u32, next: Target) -> Target {
        self.fall_into(next);
        self.write(Instruction {
            code: ALU_AND_K,
            jt: 0,
            jf: 0,
            k: mask,
        })
    }

    /// Ends the program, which starts at `start`.
    pub(super) fn finish(mut self, start: Target) -> Vec<Instruction> {
        self.fall_into(start);
        self.reversed.reverse();
        self.reversed
    }

    /// Makes `next` the first instruction, by a jump if it must.
    fn fall_into(&mut self, next: Target) {
        match next {
            Target::Label(at) if at + 1 == self.reversed.len() => {}
            Target::Label(at) => {
                self.jump_always(at);
            }
            Target::Return(answer) => {
                self.write_return(answer);
            }
        }
    }

    /// Brings a target within a comparison's reach and tells its place.
    fn place(&mut self, target: Target) -> usize {
        let near = |at: usize| self.reversed.len() - at <= REACH;
        match target {
            Target::Label(at) if near(at) => at,
            Target::Label(at) => self.jump_always(at),
            Target::Return(answer) => match self.returns.get(&answer) {
                Some(&at) if near(at) => at,
                _ => self.write_return(answer),
            },
        }
    }

    fn write_return(&mut self, answer: u32) -> usize {
        let at = self.reversed.len();
        self.returns.insert(answer, at);
        self.reversed.push(Instruction {
            code: RET_K,
            jt: 0,
            jf: 0,
            k: answer,
        });
        at
    }

    fn jump_always(&mut self, at: usize) -> usize {
        let here = self.reversed.len();
        self.reversed.push(Instruction {
            code: JMP_JA,
            jt: 0,
            jf: 0,
            // a program longer than u32 cannot be: the compiler stops at 4096
            k: u32::try_from(here - at - 1).unwrap_or(u32::MAX),
        });
        here
    }

    /// The jump from the next instruction to a place that `place` told.
    fn short(&self, at: usize) -> u8 {
        u8::try_from(self.reversed.len() - at - 1).unwrap_or(u8::MAX)
    }

    fn write(&mut self, instruction: Instruction) -> Target {
        self.reversed.push(instruction);
        Target::Label(self.reversed.len() - 1)
    }
}
