//! Tokens of the three text forms: words, quoted names, numbers, symbols, `//` comments, and errors that name their line.

use thiserror::Error;

/// A line that is not of the form.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("line {line}: {message}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// What reading gives.
pub(crate) type Result<T, E = ParseError> = std::result::Result<T, E>;

/// Whether a name of such characters needs no quotes.
pub(crate) fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

/// A place in a text.
#[derive(Clone, Debug)]
pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Where the last token starts, for messages.
    start: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Lexer { text, at: 0, start: 0 }
    }

    /// An error on the line of the last token.
    pub(crate) fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(ParseError { line: self.line_number(), message: message.into() })
    }

    /// An error that names what was expected, and what comes instead.
    pub(crate) fn expected<T>(&self, what: &str) -> Result<T> {
        self.error(format!("expected {what}, found {}", self.found()))
    }

    /// The line of the last token, from 1.
    pub(crate) fn line_number(&self) -> usize {
        1 + self.text[..self.start].matches('\n').count()
    }

    /// Where the last token starts, for [`Lexer::blame`].
    pub(crate) fn token(&self) -> usize {
        self.start
    }

    /// Makes the line of an earlier token the line of errors.
    pub(crate) fn blame(&mut self, token: usize) {
        self.start = token;
    }

    /// What is not read yet.
    pub(crate) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Moves on by so many bytes.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Moves to the next token, past white space and comments.
    pub(crate) fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                self.start = self.at;
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    /// What comes next, for messages.
    pub(crate) fn found(&self) -> String {
        let rest = &self.text[self.start..];
        let word: String = rest.chars().take_while(|&c| is_word(c)).collect();
        match (word.is_empty(), rest.chars().next()) {
            (false, _) => format!("`{word}`"),
            (true, Some('\n')) => "the end of the line".to_owned(),
            (true, Some(c)) => format!("`{c}`"),
            (true, None) => "the end of the text".to_owned(),
        }
    }

    /// Takes a symbol if it comes next.
    pub(crate) fn eat(&mut self, symbol: &str) -> bool {
        self.skip();
        let yes = self.rest().starts_with(symbol);
        if yes {
            self.at += symbol.len();
        }
        yes
    }

    pub(crate) fn expect(&mut self, symbol: &str) -> Result<()> {
        if self.eat(symbol) { Ok(()) } else { self.expected(&format!("`{symbol}`")) }
    }

    /// The first character of the next token, without taking it.
    pub(crate) fn next_char(&mut self) -> Option<char> {
        self.skip();
        self.rest().chars().next()
    }

    /// Whether a digit comes next.
    pub(crate) fn at_digit(&mut self) -> bool {
        self.next_char().is_some_and(|c| c.is_ascii_digit())
    }

    /// The next word without taking it; empty if something else comes.
    pub(crate) fn peek(&mut self) -> &'a str {
        self.skip();
        let rest = self.rest();
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        // Between the ends of a range are two dots, in names there are none.
        &rest[..rest[..end].find("..").filter(|&at| at > 0).unwrap_or(end)]
    }

    /// Takes a word if it comes next.
    pub(crate) fn eat_word(&mut self, word: &str) -> bool {
        let yes = self.peek() == word;
        if yes {
            self.at += word.len();
        }
        yes
    }

    pub(crate) fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.eat_word(word) { Ok(()) } else { self.expected(&format!("`{word}`")) }
    }

    /// The next word; `what` says in an error what it should have been.
    pub(crate) fn word(&mut self, what: &str) -> Result<&'a str> {
        let word = self.peek();
        if word.is_empty() {
            return self.expected(what);
        }
        self.at += word.len();
        Ok(word)
    }

    /// Fails unless the text ends here.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.skip();
        if self.rest().is_empty() { Ok(()) } else { self.expected("the end of the text") }
    }

    /// Digits without a sign.
    pub(crate) fn digits(&mut self) -> Result<u64> {
        self.skip();
        let rest = self.rest();
        let digits = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
        if digits.is_empty() {
            return self.expected("a number");
        }
        self.at += digits.len();
        digits.parse().or_else(|_| self.error(format!("`{digits}` is too large")))
    }

    /// A number without a sign, of a type that may be too small for it.
    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Result<T> {
        let x = self.digits()?;
        T::try_from(x).or_else(|_| self.error(format!("`{x}` is too large")))
    }

    pub(crate) fn signed(&self, negative: bool, magnitude: u64) -> Result<i64> {
        let x = i128::from(magnitude) * if negative { -1 } else { 1 };
        x.try_into().or_else(|_| self.error(format!("`{x}` is too large")))
    }

    /// An integer.
    pub(crate) fn int(&mut self) -> Result<i64> {
        let negative = self.eat("-");
        let magnitude = self.digits()?;
        self.signed(negative, magnitude)
    }

    /// The text of a floating-point number or a word such as `true` and `inf`, with its sign; empty if something else comes.
    pub(crate) fn peek_number(&mut self) -> &'a str {
        self.skip();
        let rest = self.rest();
        let mut before = ' ';
        let end = rest.find(|c| {
            let inside = is_word(c) || (matches!(c, '+' | '-') && matches!(before, ' ' | 'e' | 'E'));
            before = c;
            !inside
        });
        &rest[..end.unwrap_or(rest.len())]
    }

    /// A word, or anything in quotes.
    pub(crate) fn name(&mut self) -> Result<String> {
        if self.next_char() == Some('"') { self.string() } else { self.word("a name").map(str::to_owned) }
    }

    /// Text in quotes.
    pub(crate) fn string(&mut self) -> Result<String> {
        self.expect("\"")?;
        let mut out = String::new();
        loop {
            let mut chars = self.rest().chars();
            let Some(c) = chars.next() else { return self.error("a string without end") };
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(out),
                '\\' => {
                    let Some(c) = chars.next() else { return self.error("a string without end") };
                    self.at += c.len_utf8();
                    out.push(match c {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        '0' => '\0',
                        'u' => self.unicode()?,
                        c => c,
                    });
                }
                c => out.push(c),
            }
        }
    }

    /// The character of `{1f600}`.
    fn unicode(&mut self) -> Result<char> {
        let rest = self.rest();
        let digits = rest.strip_prefix('{').and_then(|r| r.split_once('}')).map(|(digits, _)| digits);
        let c = digits.and_then(|d| u32::from_str_radix(d, 16).ok()).and_then(char::from_u32);
        match (digits, c) {
            (Some(d), Some(c)) => {
                self.at += d.len() + 2;
                Ok(c)
            }
            _ => self.error("expected a character's number in braces"),
        }
    }
}

/// A reader that owns a [`Lexer`] beside what it builds: the tokens are its own methods.
macro_rules! reads_tokens {
    ($parser:ident) => {
        impl<'a> std::ops::Deref for $parser<'a> {
            type Target = $crate::lexer::Lexer<'a>;
            fn deref(&self) -> &Self::Target {
                &self.lexer
            }
        }
        impl std::ops::DerefMut for $parser<'_> {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.lexer
            }
        }
        impl $parser<'_> {
            /// A list in brackets of any kind.
            fn list<T>(
                &mut self,
                open: &str,
                close: &str,
                mut item: impl FnMut(&mut Self) -> $crate::lexer::Result<T>,
            ) -> $crate::lexer::Result<Vec<T>> {
                self.expect(open)?;
                let mut items = vec![];
                while !self.eat(close) {
                    if !items.is_empty() {
                        self.expect(",")?;
                    }
                    items.push(item(self)?);
                }
                Ok(items)
            }
        }
    };
}
pub(crate) use reads_tokens;
