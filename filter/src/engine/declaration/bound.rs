//! Which variables are there where a declaration stands. Scripts are not parsed here: too many names do little harm, those
//! that are missing would keep a script from loading.

use std::collections::BTreeSet;

use rhai::{Position, Token};

use super::Found;

/// A block, or a map, and what it makes known. Arguments of closures and variables of loops count for the block that they
/// stand in.
#[derive(Default)]
struct Block {
    /// The body of a function, which sees nothing of what is around it.
    is_function: bool,
    names: Vec<String>,
}

/// The variables and arguments that are there before declarations in expressions.
pub(super) fn names(tokens: &[(Token, Position)], found: &Found) -> BTreeSet<String> {
    let mut bound = BTreeSet::new();
    let mut inline = found.inline.iter().map(|(at, _)| *at).peekable();
    let mut blocks = vec![Block::default()];
    // The arguments of the function whose body is the next block.
    let mut function: Option<Vec<String>> = None;
    // In the parentheses, or between the bars, of a list of arguments.
    let mut is_in_list = false;
    for (at, (token, _)) in tokens.iter().enumerate() {
        if inline.peek().is_none() {
            break;
        }
        if inline.next_if_eq(&at).is_some() {
            let first = blocks.iter().rposition(|block| block.is_function).unwrap_or_default();
            bound.extend(blocks.iter().skip(first).flat_map(|block| block.names.iter().cloned()));
        }
        let before =
            |count: usize| at.checked_sub(count).and_then(|at| tokens.get(at)).map(|(token, _)| token);
        let name = match token {
            Token::Identifier(name)
                if is_in_list
                    || function.is_some()
                    || matches!(before(1), Some(Token::Let | Token::Const | Token::For)) =>
            {
                Some(name.to_string())
            }
            Token::Identifier(_) => found.constants.get(&at).cloned(),
            _ => None,
        };
        match (name, &mut function, blocks.last_mut()) {
            (Some(name), Some(arguments), _) => arguments.push(name),
            (Some(name), None, Some(block)) => block.names.push(name),
            _ => {}
        }
        match token {
            Token::Fn => function = Some(Vec::new()),
            Token::LeftBrace => {
                let arguments = function.take();
                blocks.push(Block { is_function: arguments.is_some(), names: arguments.unwrap_or_default() });
            }
            Token::MapStart => blocks.push(Block::default()),
            // What is open at the end of the script stays open in one that does not parse.
            Token::RightBrace if blocks.len() > 1 => drop(blocks.pop()),
            _ => {}
        }
        match token {
            Token::LeftParen => {
                is_in_list = matches!(before(1), Some(Token::For | Token::Catch));
            }
            // An operator between numbers is taken for one too, which does no harm.
            Token::Pipe => is_in_list = !is_in_list,
            Token::Identifier(_) | Token::Comma => {}
            _ => is_in_list = false,
        }
    }
    bound
}
