//! Extents that other extents give: `past + seq`, as a file names a dimension or a user binds one.

use std::collections::BTreeMap;

/// An integer expression over dimensions: `+`, `-`, `*`, `//` (rounded toward minus infinity), numbers, names, parentheses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Relation {
    /// A number.
    Number(i64),
    /// Another dimension.
    Name(String),
    /// Two of them and the operator between.
    Binary(char, Box<Relation>, Box<Relation>),
}

impl Relation {
    /// The expression of a text; `None` where it is none.
    pub fn parse(text: &str) -> Option<Relation> {
        let mut rest = tokens(text)?;
        rest.reverse();
        let relation = sum(&mut rest, MAX_DEPTH)?;
        rest.is_empty().then_some(relation)
    }

    /// Whether it says something of other dimensions: a name alone is only a name, and a number no relation.
    pub fn relates(&self) -> bool {
        matches!(self, Relation::Binary(..)) && !self.names().is_empty()
    }

    /// The dimensions in it.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Relation::Number(_) => vec![],
            Relation::Name(name) => vec![name],
            Relation::Binary(_, a, b) => [a.names(), b.names()].concat(),
        }
    }

    /// Its value where all its dimensions have one, and it is an extent.
    pub fn extent(&self, of: &BTreeMap<String, usize>) -> Option<usize> {
        usize::try_from(self.value(of)?).ok()
    }

    fn value(&self, of: &BTreeMap<String, usize>) -> Option<i64> {
        match self {
            Relation::Number(n) => Some(*n),
            Relation::Name(name) => i64::try_from(*of.get(name)?).ok(),
            Relation::Binary(operator, a, b) => {
                let (a, b) = (a.value(of)?, b.value(of)?);
                match operator {
                    '+' => a.checked_add(b),
                    '-' => a.checked_sub(b),
                    '*' => a.checked_mul(b),
                    _ => (b > 0).then(|| a.div_euclid(b)),
                }
            }
        }
    }
}

/// What the dimensions `names` are that others give, by the user's words or, where they are silent, by their own names; of the names
/// in a name all must be dimensions, else it is only a name.
pub fn relations(names: &[&str], said: &BTreeMap<String, String>) -> BTreeMap<String, Relation> {
    let one = |&name: &&str| {
        let text = said.get(name);
        let relation = Relation::parse(text.map_or(name, String::as_str))?;
        let known = relation.names().iter().all(|n| *n != name && names.contains(n));
        (text.is_some() || (relation.relates() && known)).then(|| (name.to_owned(), relation))
    };
    names.iter().filter_map(one).collect()
}

/// Adds the extents that follow from those that are known.
pub fn complete(extents: &mut BTreeMap<String, usize>, relations: &BTreeMap<String, Relation>) {
    let mut known = usize::MAX;
    while known != extents.len() {
        known = extents.len();
        let new: Vec<_> = relations.iter().filter(|(name, _)| !extents.contains_key(*name)).collect();
        let new: Vec<_> = new.into_iter().filter_map(|(name, r)| Some((name.clone(), r.extent(extents)?))).collect();
        extents.extend(new);
    }
}

/// Parentheses in each other.
const MAX_DEPTH: usize = 32;

/// Names, numbers and operators in order.
fn tokens(text: &str) -> Option<Vec<String>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let mut tokens: Vec<String> = vec![];
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        let length = match c {
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            '/' if rest.starts_with("//") => 2,
            '+' | '-' | '*' | '(' | ')' => 1,
            _ => return None,
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token.to_owned());
        rest = after.trim_start();
    }
    Some(tokens)
}

fn sum(rest: &mut Vec<String>, depth: usize) -> Option<Relation> {
    chain(rest, &["+", "-"], &mut |rest| product(rest, depth))
}

fn product(rest: &mut Vec<String>, depth: usize) -> Option<Relation> {
    chain(rest, &["*", "//"], &mut |rest| atom(rest, depth))
}

fn chain(rest: &mut Vec<String>, operators: &[&str], part: &mut dyn FnMut(&mut Vec<String>) -> Option<Relation>) -> Option<Relation> {
    let mut left = part(rest)?;
    while let Some(operator) = rest.pop_if(|t| operators.contains(&t.as_str())) {
        let right = part(rest)?;
        left = Relation::Binary(operator.chars().next()?, Box::new(left), Box::new(right));
    }
    Some(left)
}

fn atom(rest: &mut Vec<String>, depth: usize) -> Option<Relation> {
    let token = rest.pop()?;
    if token == "(" {
        let inside = sum(rest, depth.checked_sub(1)?)?;
        return (rest.pop()? == ")").then_some(inside);
    }
    let first = token.chars().next()?;
    if first.is_ascii_digit() {
        return token.parse().ok().map(Relation::Number);
    }
    (first.is_alphabetic() || first == '_').then_some(Relation::Name(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_have_values() {
        let of: BTreeMap<String, usize> = [("past", 6), ("seq.1", 3)].map(|(name, n)| (name.to_owned(), n)).into();
        let extent = |text: &str| Relation::parse(text).and_then(|r| r.extent(&of));
        assert_eq!(extent("past + seq.1"), Some(9));
        assert_eq!(extent("past+1"), Some(7));
        assert_eq!(extent("2*past - (seq.1 - 1)*3"), Some(6));
        assert_eq!(extent("(past + 1)//2 - 1"), Some(2));
        assert_eq!(extent("past - seq.1 - seq.1"), Some(0));
        for none in
            ["", "past +", "past seq.1", "seq.1 - past", "past % 2", "past / 2", "(past", "past // 0", "3x", "9223372036854775807*past"]
        {
            assert_eq!(extent(none), None, "{none}");
        }
        assert_eq!(Relation::parse(&"(".repeat(100_000)), None);
    }

    #[test]
    fn names_of_dimensions_say_what_they_are() {
        let said = [("total".to_owned(), "past + seq".to_owned())].into();
        let relations = relations(&["past", "seq", "past + seq", "total", "batch-size", "seq + 1", "2"], &said);
        let known: Vec<&str> = relations.keys().map(String::as_str).collect();
        assert_eq!(known, ["past + seq", "seq + 1", "total"]);
        let mut extents: BTreeMap<String, usize> = [("past".to_owned(), 6), ("seq".to_owned(), 1)].into();
        complete(&mut extents, &relations);
        let found: Vec<(&str, usize)> = extents.iter().map(|(name, &n)| (name.as_str(), n)).collect();
        assert_eq!(found, [("past", 6), ("past + seq", 7), ("seq", 1), ("seq + 1", 2), ("total", 7)]);
    }
}
