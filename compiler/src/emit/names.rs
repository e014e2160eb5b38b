//! Names that C, C++ and Rust accept, from names that models have.

/// Words that C, C++ or Rust reserve, macros that C libraries define, and names of the generated functions' own.
const RESERVED: &[&str] = &[
    "Box",
    "EOF",
    "Err",
    "FILE",
    "I",
    "NULL",
    "None",
    "Ok",
    "Option",
    "Result",
    "SOURCE_HASH",
    "STATE_BYTES",
    "Self",
    "Some",
    "State",
    "Status",
    "String",
    "VERSION",
    "Vec",
    "WORKSPACE_BYTES",
    "Workspace",
    "abstract",
    "alignas",
    "alignof",
    "and",
    "and_eq",
    "as",
    "asm",
    "assert",
    "async",
    "auto",
    "await",
    "become",
    "bitand",
    "bitor",
    "bool",
    "box",
    "break",
    "case",
    "catch",
    "char",
    "class",
    "compl",
    "complex",
    "const",
    "constexpr",
    "continue",
    "crate",
    "decltype",
    "default",
    "delete",
    "do",
    "double",
    "dyn",
    "else",
    "enum",
    "errno",
    "explicit",
    "export",
    "extern",
    "f32",
    "f64",
    "false",
    "far",
    "final",
    "float",
    "fn",
    "for",
    "friend",
    "gen",
    "goto",
    "i16",
    "i32",
    "i64",
    "i386",
    "i8",
    "if",
    "impl",
    "in",
    "inline",
    "int",
    "int16_t",
    "int32_t",
    "int64_t",
    "int8_t",
    "isize",
    "let",
    "linux",
    "long",
    "loop",
    "macro",
    "main",
    "match",
    "max",
    "min",
    "mod",
    "move",
    "mut",
    "mutable",
    "namespace",
    "near",
    "new",
    "noexcept",
    "not",
    "not_eq",
    "nullptr",
    "operator",
    "or",
    "or_eq",
    "override",
    "pool",
    "priv",
    "private",
    "protected",
    "pub",
    "public",
    "ref",
    "register",
    "restrict",
    "return",
    "self",
    "short",
    "signed",
    "size_t",
    "sizeof",
    "static",
    "static_assert",
    "stderr",
    "stdin",
    "stdout",
    "str",
    "struct",
    "super",
    "switch",
    "template",
    "this",
    "thread_local",
    "throw",
    "tinsmith",
    "trait",
    "true",
    "try",
    "type",
    "typedef",
    "typeid",
    "typename",
    "typeof",
    "u16",
    "u32",
    "u64",
    "u8",
    "uint16_t",
    "uint32_t",
    "uint64_t",
    "uint8_t",
    "union",
    "unix",
    "unsafe",
    "unsigned",
    "unsized",
    "use",
    "using",
    "usize",
    "virtual",
    "void",
    "volatile",
    "wchar_t",
    "where",
    "while",
    "workspace",
    "sizes",
    "xor",
    "xor_eq",
    "yield",
];

/// Longest name that is taken over whole.
const MAX_CHARS: usize = 64;

/// An identifier like `name`, or `fallback` if nothing of it can be kept.
pub fn identifier(name: &str, fallback: &str) -> String {
    let mut ident = String::new();
    for c in name.chars().take(4 * MAX_CHARS) {
        if c.is_ascii_alphanumeric() {
            ident.push(c);
        } else if !ident.is_empty() && !ident.ends_with('_') {
            ident.push('_');
        }
        if ident.len() == MAX_CHARS {
            break;
        }
    }
    let ident = ident.trim_end_matches('_');
    match ident.chars().next() {
        None => fallback.to_owned(),
        Some(c) if c.is_ascii_digit() => format!("{fallback}_{ident}"),
        Some(_) if RESERVED.contains(&ident) => format!("{ident}_"),
        Some(_) => ident.to_owned(),
    }
}

/// The identifier of a model of this name.
pub fn model(name: &str) -> String {
    identifier(name, "model")
}

/// Identifiers for parameters of these names of a model's functions: they differ in more than case, because macros derive
/// from them.
pub fn parameters(model: &str, names: &[&str]) -> Vec<String> {
    let functions = [format!("{model}_run"), format!("{model}_model"), format!("{model}_state_init")];
    let mut idents: Vec<String> = vec![];
    for name in names {
        let ident = identifier(name, "tensor");
        let mut free = ident.clone();
        let mut n = 2;
        while idents.iter().chain(&functions).any(|i| i.eq_ignore_ascii_case(&free)) {
            free = format!("{ident}_{n}");
            n += 1;
        }
        idents.push(free);
    }
    idents
}

/// `text` in a form that cannot end the comment it stands in, of C or Rust.
pub(crate) fn in_comment(text: &str) -> String {
    let plain: String =
        text.chars().map(|c| if c.is_control() || matches!(c, '*' | '\\' | '?') || !c.is_ascii() { '.' } else { c }).collect();
    if plain.len() > 2 * MAX_CHARS { format!("{}...", &plain[..2 * MAX_CHARS]) } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_identifiers() {
        let of = |name| identifier(name, "tensor");
        assert_eq!(of("/head/Add_2"), "head_Add_2");
        assert_eq!(of("input.1"), "input_1");
        assert_eq!(of("1x1"), "tensor_1x1");
        assert_eq!(of("__x__"), "x");
        assert_eq!(of("图像"), "tensor");
        assert_eq!(of("int"), "int_");
        assert_eq!(of(&"a".repeat(500)).len(), MAX_CHARS);
        assert_eq!(model("tinsmith"), "tinsmith_");
    }

    #[test]
    fn parameters_differ() {
        assert_eq!(parameters("m", &["x", "X", "/x", "x_2", "workspace", "m_run"]), ["x", "X_2", "x_3", "x_2_2", "workspace_", "m_run_2"]);
    }

    #[test]
    fn reserved_words_are_sorted_by_kind_and_unique() {
        let mut sorted = RESERVED.to_vec();
        sorted.dedup();
        assert_eq!(sorted.len(), RESERVED.len());
    }

    #[test]
    fn comments_stay_closed() {
        assert_eq!(in_comment("a */ b\n// c\\"), "a ./ b.// c.");
    }
}
