//! Tables in databases: a statement with `%s` and the like, as Postfix's mysql_table(5) and sqlite_table(5) have them. What is
//! looked up never becomes text of the statement: each place of it is a `?` with a parameter. Pure.

use crate::object::Fault;

/// Most parameters of one statement; the labels of a key are nine at most.
const MAX_PLACES: usize = 64;

/// How a database writes texts in statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// A backslash takes the next character as it is.
    MySql,
    /// Nothing but a doubled quote stands for something else.
    Sqlite,
}

/// A part of a key or of a value, or a text as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `%s`
    All,
    /// `%u`: before the last `@`; all of it where there is none.
    User,
    /// `%d`: behind it.
    Domain,
    /// `%1` to `%9`: a label of the domain, counted from its end.
    Label(usize),
    /// The same of the key, in a format of results.
    OfKey(Box<Piece>),
}

/// A statement whose places are filled by what is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    text: String,
    /// What each `?` stands for.
    places: Vec<Vec<Piece>>,
}

impl Statement {
    /// Reads a statement with `%s`, `%u`, `%d`, `%1` to `%9` and `%%`, inside quotes or not.
    ///
    /// # Errors
    /// It has something else behind a `%`, a `?` of its own, no end of a text, or no place for what is looked up.
    pub fn parse(template: &str, dialect: Dialect) -> Result<Self, Fault> {
        let mut statement = Statement { text: String::new(), places: Vec::new() };
        let mut rest = template.chars();
        while let Some(c) = rest.next() {
            match c {
                '\'' | '"' => statement.literal(c, &mut rest, dialect)?,
                '`' => statement.name(&mut rest)?,
                '?' => return Err(Fault::new("a query has a '?', which stands for nothing")),
                '%' => match piece(rest.next())? {
                    Piece::Text(text) => statement.text.push_str(&text),
                    place => statement.place(vec![place]),
                },
                other => statement.text.push(other),
            }
        }
        if statement.places.is_empty() || statement.places.len() > MAX_PLACES {
            return Err(Fault(format!(
                "a query has one to {MAX_PLACES} places for what is looked up, such as '%s'"
            )));
        }
        Ok(statement)
    }

    /// A text in quotes. Where it has places in it, all of it becomes a parameter.
    fn literal(
        &mut self,
        quote: char,
        rest: &mut std::str::Chars<'_>,
        dialect: Dialect,
    ) -> Result<(), Fault> {
        let (mut written, mut pieces, mut text) = (String::from(quote), Vec::new(), String::new());
        loop {
            let Some(c) = rest.next() else { return Err(Fault::new("a query has a text without an end")) };
            match c {
                '\\' if dialect == Dialect::MySql => {
                    let Some(next) = rest.next() else { continue };
                    written.extend([c, next]);
                    match next {
                        // In a pattern of LIKE the backslash stays.
                        '%' | '_' => text.extend([c, next]),
                        'n' => text.push('\n'),
                        't' => text.push('\t'),
                        'r' => text.push('\r'),
                        '0' => text.push('\0'),
                        other => text.push(other),
                    }
                }
                '%' => match piece(rest.next())? {
                    Piece::Text(percent) => {
                        written.push_str(&percent);
                        text.push_str(&percent);
                    }
                    place => {
                        pieces.extend([Piece::Text(std::mem::take(&mut text)), place]);
                    }
                },
                c if c == quote => {
                    written.push(c);
                    // Twice, it stands for itself.
                    if rest.as_str().starts_with(quote) {
                        rest.next();
                        written.push(c);
                        text.push(c);
                        continue;
                    }
                    break;
                }
                other => {
                    written.push(other);
                    text.push(other);
                }
            }
        }
        if pieces.is_empty() {
            self.text.push_str(&written);
        } else {
            pieces.push(Piece::Text(text));
            self.place(pieces);
        }
        Ok(())
    }

    /// The name of a column or table in its quotes; nothing that is looked up can be one.
    fn name(&mut self, rest: &mut std::str::Chars<'_>) -> Result<(), Fault> {
        self.text.push('`');
        for c in rest {
            self.text.push(c);
            match c {
                '`' => return Ok(()),
                '%' => return Err(Fault::new("a query has a '%' in a name")),
                _ => {}
            }
        }
        Err(Fault::new("a query has a name without an end"))
    }

    fn place(&mut self, pieces: Vec<Piece>) {
        self.text.push('?');
        self.places.push(pieces);
    }

    /// The statement, with a `?` for each place.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The parameters for a key; `None` where it lacks a part that is asked for, so that there is nothing to look up.
    pub fn parameters(&self, key: &str) -> Option<Vec<String>> {
        self.places.iter().map(|pieces| fill(pieces, key, key)).collect()
    }
}

/// What is made of each value that is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Vec<Piece>);

impl Format {
    /// Reads a format: `%s`, `%u`, `%d`, `%1` to `%9` of the value, `%S`, `%U`, `%D` of the key, `%%`.
    ///
    /// # Errors
    /// It has something else behind a `%`.
    pub fn parse(template: &str) -> Result<Self, Fault> {
        let (mut pieces, mut text) = (Vec::new(), String::new());
        let mut rest = template.chars();
        while let Some(c) = rest.next() {
            let found = match c {
                '%' => {
                    let next = rest.next();
                    match next {
                        Some('S' | 'U' | 'D') => {
                            let of_key = piece(next.map(|c| c.to_ascii_lowercase()))?;
                            Piece::OfKey(Box::new(of_key))
                        }
                        other => piece(other)?,
                    }
                }
                other => Piece::Text(other.to_string()),
            };
            match found {
                Piece::Text(more) => text.push_str(&more),
                place => pieces.extend([Piece::Text(std::mem::take(&mut text)), place]),
            }
        }
        pieces.push(Piece::Text(text));
        Ok(Format(pieces))
    }

    /// What is made of a value that was found by a key; `None` where one lacks a part that is asked for.
    pub fn apply(&self, value: &str, key: &str) -> Option<String> {
        fill(&self.0, value, key)
    }
}

fn piece(letter: Option<char>) -> Result<Piece, Fault> {
    match letter {
        Some('%') => Ok(Piece::Text("%".to_owned())),
        Some('s') => Ok(Piece::All),
        Some('u') => Ok(Piece::User),
        Some('d') => Ok(Piece::Domain),
        Some(digit @ '1'..='9') => Ok(Piece::Label(digit.to_digit(10).map_or(1, |digit| digit as usize))),
        Some(other) => Err(Fault(format!("there is no '%{}'", other.escape_debug()))),
        None => Err(Fault::new("a '%' has nothing behind it")),
    }
}

fn fill(pieces: &[Piece], of: &str, key: &str) -> Option<String> {
    pieces.iter().map(|piece| part(piece, of, key)).collect()
}

fn part(piece: &Piece, of: &str, key: &str) -> Option<String> {
    let (user, domain) = of.rsplit_once('@').map_or((of, None), |(user, domain)| (user, Some(domain)));
    let is_there = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    match piece {
        Piece::Text(text) => Some(text.clone()),
        Piece::All => is_there(of),
        Piece::User => is_there(user),
        Piece::Domain => domain.and_then(is_there),
        Piece::Label(number) => domain.unwrap_or(of).rsplit('.').nth(number - 1).and_then(is_there),
        Piece::OfKey(piece) => part(piece, key, key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str, key: &str) -> (String, Option<Vec<String>>) {
        let statement = Statement::parse(template, Dialect::MySql).unwrap();
        (statement.text().to_owned(), statement.parameters(key))
    }

    #[test]
    fn what_is_looked_up_is_a_parameter_wherever_it_stands() {
        for (template, text, parameters) in [
            ("select a from b where c = '%s'", "select a from b where c = ?", &["jane@mx.example.com"][..]),
            ("select a from b where c = %s", "select a from b where c = ?", &["jane@mx.example.com"]),
            ("where u = '%u' and d = \"%d\"", "where u = ? and d = ?", &["jane", "mx.example.com"]),
            (
                "where c = '%u+x@%d' or c = '%1.%2'",
                "where c = ? or c = ?",
                &["jane+x@mx.example.com", "com.example"],
            ),
            (
                "where c = 'it''s %s' and d = 'it''s'",
                "where c = ? and d = 'it''s'",
                &["it's jane@mx.example.com"],
            ),
            (r"where c = '\'%s\n' and d = '\'?'", r"where c = ? and d = '\'?'", &["'jane@mx.example.com\n"]),
            (
                "where c like '%%%u%%' and d like 'x%%' and `e``f` = %1",
                "where c like ? and d like 'x%' and `e``f` = ?",
                &["%jane%", "com"],
            ),
        ] {
            let expected = parameters.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(
                filled(template, "jane@mx.example.com"),
                (text.to_owned(), Some(expected)),
                "{template}"
            );
        }
        let hostile = "' or ''='@x";
        assert_eq!(
            filled("where c = '%s'", hostile),
            ("where c = ?".to_owned(), Some(vec![hostile.to_owned()]))
        );
        // No backslash means anything to SQLite.
        let statement = Statement::parse(r"where c = '\' and d = '%s\'", Dialect::Sqlite).unwrap();
        assert_eq!(statement.text(), r"where c = '\' and d = ?");
        assert_eq!(statement.parameters("a").unwrap(), [r"a\"]);
    }

    #[test]
    fn what_a_key_lacks_is_not_looked_up() {
        for (template, key, is_looked_up) in [
            ("'%d'", "jane", false),
            ("'%d'", "jane@", false),
            ("'%u'", "@example.com", false),
            ("'%u'", "jane", true),
            ("'%3'", "jane@example.com", false),
            ("'%2'", "example.com", true),
            ("'%s'", "", false),
        ] {
            assert_eq!(filled(template, key).1.is_some(), is_looked_up, "{template} {key}");
        }
    }

    #[test]
    fn what_is_no_query_is_refused() {
        for template in [
            "select 1",
            "where a = ?",
            "where a = '%s",
            "where `%s` = 1",
            "where `a = '%s'",
            "%x",
            "'%s' %",
            "'%S'",
        ] {
            assert!(Statement::parse(template, Dialect::MySql).is_err(), "{template}");
        }
        assert!(Statement::parse(&"%s".repeat(MAX_PLACES + 1), Dialect::MySql).is_err());
    }

    #[test]
    fn results_have_a_format() {
        let apply = |format: &str, value: &str| Format::parse(format).unwrap().apply(value, "joe@key.test");
        for (format, value, made) in [
            ("%s", "a@b.c", Some("a@b.c")),
            ("smtp:[%d]", "a@b.c", Some("smtp:[b.c]")),
            ("%u at %2 for %U of %D, %S %%", "a@b.c", Some("a at b for joe of key.test, joe@key.test %")),
            ("%d", "a", None),
            ("OK", "anything", Some("OK")),
        ] {
            assert_eq!(apply(format, value).as_deref(), made, "{format} {value}");
        }
        assert!(Format::parse("%q").is_err());
    }
}
