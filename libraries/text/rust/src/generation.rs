//! `{% generation %}` ... `{% endgeneration %}` marks the assistant's text for training masks. When
//! rendering it is a scope of its own and nothing more: `{% with %}`.

/// Rewrites the tags in place, outside of comments and raw blocks.
pub fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut raw = false;
    while let Some(open) = rest.find("{%").into_iter().chain(rest.find("{#")).min() {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        if !raw && rest.starts_with("{#") {
            let end = rest.find("#}").map_or(rest.len(), |end| end + 2);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        let (name, end) = tag(rest);
        match name {
            "generation" if !raw => out.push_str(&rest[..end].replacen(name, "with", 1)),
            "endgeneration" if !raw => out.push_str(&rest[..end].replacen(name, "endwith", 1)),
            _ => {
                raw = if raw { name != "endraw" } else { name == "raw" };
                out.push_str(&rest[..end]);
            }
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

// The name of the tag that `text` starts with, and where the name ends.
fn tag(text: &str) -> (&str, usize) {
    let inner = text[2..].trim_start_matches(['-', '+']).trim_start();
    let start = text.len() - inner.len();
    let len = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
    (&text[start..start + len], start + len)
}

#[cfg(test)]
mod tests {
    use super::without_generation_tags as rewrite;

    #[test]
    fn rewrites_tags_only() {
        assert_eq!(
            rewrite("{%- generation -%}a{%+ endgeneration %}"),
            "{%- with -%}a{%+ endwith %}"
        );
        assert_eq!(rewrite("generation {{ '{%generation' }}"), "generation {{ '{%with' }}");
        assert_eq!(rewrite("{# {% generation %} #}x"), "{# {% generation %} #}x");
        assert_eq!(
            rewrite("{% raw %}{% generation %}{# {% endraw %}{% generation %}"),
            "{% raw %}{% generation %}{# {% endraw %}{% with %}"
        );
        assert_eq!(rewrite("{% generations %}{#"), "{% generations %}{#");
        assert_eq!(rewrite("{%"), "{%");
    }
}
