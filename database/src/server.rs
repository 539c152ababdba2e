//! One connection to a server whose protocol we speak ourselves: made when it is needed, made anew when it has failed. What
//! is said there is [`Dialect`]'s; when it is given up, and what becomes of the connection, is decided here.

use std::io::ErrorKind;
use std::time::Instant;

use vsmtp_config::Place;
use vsmtp_ipc::edge::filter_database::{MAX_ANSWER, MAX_ROWS, Refused, Rows};

use crate::connection::cut;
use crate::crew::{Heard, Job};
use crate::input::{Failure, Input};
use crate::wire::Wire;

/// How servers of one kind are spoken to.
pub trait Dialect {
    /// What may be asked of them, and nothing else.
    type Question;

    /// Reads a question of a filter; `None` if there is no such question, or what is wrong with it.
    fn question(job: &Job) -> Option<Result<Self::Question, String>>;

    /// Says who we are, on a new connection.
    ///
    /// # Errors
    /// The server does not want us.
    fn greet(&self, server: &mut Input<Wire>) -> Result<(), Failure>;

    /// Puts a question.
    ///
    /// # Errors
    /// There is no answer.
    fn ask(&self, server: &mut Input<Wire>, question: &Self::Question) -> Result<Rows, Failure>;
}

/// A connection, or how to make one.
pub struct Connection<D> {
    place: Place,
    dialect: D,
    open: Option<Input<Wire>>,
}

impl<D: Dialect> Connection<D> {
    /// None is made yet.
    pub fn to(place: Place, dialect: D) -> Self {
        Connection { place, dialect, open: None }
    }

    /// Puts the question.
    pub fn ask(&mut self, job: &Job) -> Heard {
        let nothing = || Err("there is no such question for a server of this kind".to_owned());
        let question = D::question(job).unwrap_or_else(nothing);
        let question = question.map_err(|why| Refused::Failed(cut(&why)))?;
        self.answer(job, &question).map_err(|failure| refused(failure, job))
    }

    fn answer(&mut self, job: &Job, question: &D::Question) -> Result<Rows, Failure> {
        // The server may have closed ours long ago, or have been started anew. What it has said since belongs to no question.
        let open = self.open.take().and_then(|mut server| server.source().is_quiet().then_some(server));
        let is_new = open.is_none();
        let mut server = match open {
            Some(server) => server,
            None => Input::new(Wire::connect(&self.place, job.until)?),
        };
        server.source().wait_until(job.until);
        let held = job.line.hold(server.source().fd());
        if held.is_none() {
            return Err(Failure::Io(ErrorKind::TimedOut.into()));
        }
        if is_new {
            self.dialect.greet(&mut server).map_err(|failure| match failure {
                // It does not know us, so it is not asked again on this connection.
                Failure::No(why) => Failure::Io(std::io::Error::other(why)),
                other => other,
            })?;
        }
        let answer = self.dialect.ask(&mut server, question);
        drop(held);
        if matches!(answer, Ok(_) | Err(Failure::No(_))) && server.begin() {
            self.open = Some(server);
        }
        let answer = answer?;
        if answer.is_within_bounds() { Ok(answer) } else { Err(Failure::TooLarge) }
    }
}

fn refused(failure: Failure, job: &Job) -> Refused {
    let text = match failure {
        Failure::Io(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            if Instant::now() >= job.until || job.line.is_given_up() {
                return Refused::Late;
            }
            error.to_string()
        }
        Failure::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
            "it has closed the connection".to_owned()
        }
        Failure::Io(error) => error.to_string(),
        Failure::Nonsense(what) => format!("its answer is not understood: {what}"),
        Failure::TooLarge => format!("the answer is larger than {MAX_ROWS} rows or {MAX_ANSWER} bytes"),
        Failure::No(why) => why,
    };
    Refused::Failed(cut(&text))
}

/// An answer of one value.
pub fn one(value: Option<String>) -> Rows {
    Rows { columns: vec!["value".to_owned()], rows: vec![vec![value]] }
}

/// A value as rules see it: what is no text has U+FFFD in its place.
pub fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
