//! BDAT (RFC 3030). Whatever becomes of a chunk, exactly its octets are read: were one fewer or one more taken, a message
//! could hold commands. A chunk whose size cannot be read ends the session for that reason.

use super::answer::is_yes;
use super::dialogue::Handled;
use super::state::{Body, Open, Part, Phase, RefusedChunk};
use super::{Dropped, Question, Session, Step, Verdict};
use crate::command::ChunkRequest;
use crate::data::{DataDecoder, Framing, Progress};
use crate::extension::Extension;
use crate::reply::Own;

impl Session {
    /// BDAT.
    pub(super) fn bdat(&mut self, arguments: &str) -> Handled {
        let chunk = match ChunkRequest::parse(arguments) {
            Ok(chunk) => chunk,
            Err(fault) => {
                self.close(fault);
                return Handled::Done;
            }
        };
        if !self.settings.extensions.has(Extension::Chunking) {
            return self.refuse_chunk(chunk, Own::NotImplemented);
        }
        match &mut self.phase {
            Phase::Body(body) => {
                body.decoder.announce(chunk.size);
                body.part = Part::Chunk { left: chunk.size, last: chunk.last };
                if chunk.size == 0 && !chunk.last {
                    self.count_junk();
                }
                Handled::Done
            }
            Phase::Mail(transaction) => {
                let transaction = *transaction;
                match self.nobody(transaction) {
                    Some(fault) => self.refuse_chunk(chunk, fault),
                    None => self.asked(Open::Data { chunk: Some(chunk) }, Question::Data),
                }
            }
            Phase::Ready if self.input.strays => self.stray(chunk),
            Phase::Ready => self.refuse_chunk(chunk, Own::MailFirst),
            _ => self.refuse_chunk(chunk, self.hello_first()),
        }
    }

    /// The caller has said whether the message may come, the first chunk of which is on its way.
    pub(super) fn chunks_allowed(&mut self, verdict: Verdict, chunk: ChunkRequest) {
        let Phase::Mail(transaction) = self.phase else { return };
        self.phase = Phase::Ready;
        if is_yes(&verdict) {
            let framing = if transaction.binary { Framing::Binary } else { Framing::Chunks };
            let limits = self.settings.limits.body.clone();
            let mut decoder = DataDecoder::framed(limits, self.settings.bare_newline, framing);
            decoder.announce(chunk.size);
            let part = Part::Chunk { left: chunk.size, last: chunk.last };
            self.phase = Phase::Body(Box::new(Body { transaction, decoder, part, reported: false }));
            return;
        }
        let before = self.output.len();
        self.verdict(verdict, Own::Unavailable);
        self.throw_away(chunk, before);
        self.input.strays = !chunk.last;
    }

    /// Octets of a chunk that was granted.
    pub(super) fn chunk(
        &mut self,
        rest: &[u8],
        left: u64,
        last: bool,
        out: &mut Vec<u8>,
    ) -> (usize, Option<Step>) {
        let Phase::Body(body) = &mut self.phase else { return (0, None) };
        let used = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let progress = body.decoder.push(rest.get(..used).unwrap_or_default(), out);
        if progress == Progress::Overrun {
            self.close(Own::Flooded);
            return (used, None);
        }
        let left = left - used as u64;
        body.part = Part::Chunk { left, last };
        if left > 0 {
            return (used, Some(body.report().map_or(Step::NeedInput, Step::Dropped)));
        }
        if last {
            body.decoder.finish(out);
            return (used, self.end_of_body());
        }
        self.end_of_chunk();
        (used, None)
    }

    /// A chunk that was not the last is complete. A fault ends the transaction here.
    fn end_of_chunk(&mut self) {
        let Phase::Body(body) = &mut self.phase else { return };
        let Some(fault) = body.decoder.fault() else {
            body.part = Part::Command;
            return self.say(Own::ChunkOk);
        };
        self.phase = body.report().map_or(Phase::Ready, Phase::Reported);
        self.input.strays = true;
        self.fail(fault.reply());
    }

    /// A chunk of a message that was refused already. A client that pipelines could not know, so it is no error yet.
    fn stray(&mut self, chunk: ChunkRequest) -> Handled {
        let before = self.output.len();
        self.say(Own::MailFirst);
        self.count_junk();
        self.throw_away(chunk, before);
        self.input.strays = !chunk.last;
        Handled::Done
    }

    fn refuse_chunk(&mut self, chunk: ChunkRequest, fault: Own) -> Handled {
        let before = self.output.len();
        self.fail(fault);
        self.throw_away(chunk, before);
        Handled::Done
    }

    /// Reads a chunk for nothing; what was written to the output since `before` is said afterwards.
    fn throw_away(&mut self, chunk: ChunkRequest, before: usize) {
        let drain = self.settings.limits.body.drain;
        if chunk.size == 0 || matches!(self.phase, Phase::Closing(_)) {
            return;
        }
        if drain != 0 && chunk.size > drain {
            return self.close(Own::Flooded);
        }
        let reply = self.output.split_off(before);
        self.input.refused = Some(RefusedChunk { left: chunk.size, reply });
    }

    /// Octets of a chunk that was refused.
    pub(super) fn refused_chunk(&mut self, rest: &[u8]) -> (usize, Option<Step>) {
        let Some(chunk) = &mut self.input.refused else { return (0, None) };
        let used = usize::try_from(chunk.left).unwrap_or(usize::MAX).min(rest.len());
        chunk.left -= used as u64;
        if chunk.left > 0 {
            return (used, Some(Step::NeedInput));
        }
        self.output.append(&mut chunk.reply);
        self.input.refused = None;
        (used, None)
    }

    /// True while octets come that are no commands.
    pub(super) fn expects_octets(&self) -> bool {
        let part = match &self.phase {
            Phase::Body(body) => Some(body.part),
            _ => None,
        };
        self.input.refused.is_some() || part.is_some_and(|part| part != Part::Command)
    }

    /// Forgets that chunks may come for which there is no message: another command has come.
    pub(super) fn forget_strays(&mut self) {
        self.input.strays = false;
    }

    /// Gives up a message between two of its chunks, for a command that may do so.
    pub(super) fn drop_chunks(&mut self, why: Dropped) {
        let reported = matches!(&self.phase, Phase::Body(body) if body.reported);
        self.phase = if reported { Phase::Ready } else { Phase::Reported(why) };
    }
}
