//! `operator!`: the struct of an operator's attributes, its schema, and reading and printing them.

/// Declares an operator.
///
/// ```text
/// operator! {
///     /// What it computes, with shapes.
///     Gemm(a, b, "c?") -> (y) since [1, 6, 7, 9, 11, 13];
///     /// Scale of the product.
///     alpha: f32 = 1.0,
///     /// Transpose `a`.
///     trans_a as "transA": bool = false,
///     /// No default: required, or absent if an `Option`.
///     axis: Option<i64>,
/// }
/// ```
///
/// Operators of other domains end the first line with `in "com.microsoft"`.
/// Operand and result names are identifiers, or strings where they end in `?` (optional) or `*` (variadic).
#[macro_export]
macro_rules! operator {
    (
        $(#[doc = $doc:literal])+
        $name:ident ( $($operand:tt),* $(,)? ) -> ( $($result:tt),* $(,)? ) since [ $($since:literal),* $(,)? ] $(in $domain:literal)?;
        $( $(#[doc = $fdoc:literal])* $field:ident $(as $rename:literal)? : $ty:ty $(= $default:expr)? ),* $(,)?
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[doc = $fdoc])* pub $field: $ty, )*
        }

        impl $name {
            /// What is known without attributes.
            pub const SCHEMA: $crate::ops::Schema = $crate::ops::Schema {
                name: stringify!($name),
                domain: $crate::operator!(@domain $($domain)?),
                since: &[$($since),*],
                operands: &[$( $crate::operator!(@name $operand) ),*],
                results: &[$( $crate::operator!(@name $result) ),*],
                attributes: &[$( $crate::operator!(@attribute $field $(as $rename)?) ),*],
                doc: concat!($($doc, "\n"),+),
                build: |_attributes| {
                    let op = $name {
                        $( $field: _attributes.take($crate::operator!(@attribute $field $(as $rename)?), $crate::operator!(@default $($default)?))?, )*
                    };
                    _attributes.finish()?;
                    Ok(Box::new(op))
                },
            };
        }

        impl $crate::ops::Described for $name {
            fn schema(&self) -> &'static $crate::ops::Schema {
                const { &$name::SCHEMA }
            }

            fn attributes(&self) -> Vec<(&'static str, $crate::ops::Attribute)> {
                #[allow(unused_mut)]
                let mut list = Vec::new();
                $( {
                    let default: Option<$ty> = $crate::operator!(@default $($default)?);
                    if default.as_ref() != Some(&self.$field)
                        && let Some(value) = $crate::ops::AttributeValue::write(&self.$field) {
                        list.push(($crate::operator!(@attribute $field $(as $rename)?), value));
                    }
                } )*
                list
            }
        }
    };
    (@name $name:ident) => { stringify!($name) };
    (@name $name:literal) => { $name };
    (@attribute $field:ident as $rename:literal) => { $rename };
    (@attribute $field:ident) => { stringify!($field) };
    (@domain $domain:literal) => { $domain };
    (@domain) => { "" };
    (@default $default:expr) => { Some($default.into()) };
    (@default) => { None };
}
