//! robots.txt as RFC 9309 reads it: the groups of our name, else those of everyone; the longest rule decides.

use std::time::Duration;

use super::urls::uniform_escapes;

/// What a site allows us.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Robots {
    rules: Vec<Rule>,
    pub crawl_delay: Option<Duration>,
    /// Addresses of sitemaps, for everyone.
    pub sitemaps: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Rule {
    is_allowed: bool,
    pattern: String,
}

/// What one group says.
#[derive(Default)]
struct Group {
    is_ours: bool,
    is_everyones: bool,
    rules: Vec<Rule>,
    crawl_delay: Option<Duration>,
}

impl Robots {
    /// What a robots.txt says to `product`, a name in lower case.
    pub fn parse(text: &str, product: &str) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        let mut sitemaps = Vec::new();
        // Several names that follow one another share their rules.
        let mut is_naming = false;
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.split('#').next().unwrap_or_default();
            let Some((field, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            match field.trim().to_ascii_lowercase().as_str() {
                "user-agent" => {
                    if !is_naming {
                        groups.push(Group::default());
                    }
                    is_naming = true;
                    let group = groups.last_mut().expect("one was pushed");
                    let is_token = |c: char| c.is_ascii_alphabetic() || c == '-' || c == '_';
                    let end = value.find(|c| !is_token(c)).unwrap_or(value.len());
                    group.is_ours |= value[..end].eq_ignore_ascii_case(product);
                    group.is_everyones |= value.starts_with('*');
                }
                field @ ("allow" | "disallow") => {
                    is_naming = false;
                    // Rules before any name are nobody's, and an empty one says nothing.
                    if let Some(group) = groups.last_mut().filter(|_| !value.is_empty()) {
                        group.rules.push(Rule {
                            is_allowed: field == "allow",
                            pattern: uniform_escapes(value),
                        });
                    }
                }
                "crawl-delay" => {
                    is_naming = false;
                    let seconds = value.parse::<f64>().ok();
                    let delay = seconds.and_then(|it| Duration::try_from_secs_f64(it).ok());
                    if let Some(group) = groups.last_mut() {
                        group.crawl_delay = delay.or(group.crawl_delay);
                    }
                }
                "sitemap" => sitemaps.push(value.to_owned()),
                _ => {}
            }
        }
        let is_named = groups.iter().any(|group| group.is_ours);
        let mut robots = Self {
            sitemaps,
            ..Self::default()
        };
        for group in groups {
            if group.is_ours || (!is_named && group.is_everyones) {
                robots.rules.extend(group.rules);
                robots.crawl_delay = group.crawl_delay.or(robots.crawl_delay);
            }
        }
        robots
    }

    /// Whether this path, with its query, may be fetched.
    pub fn allows(&self, path: &str) -> bool {
        if path == "/robots.txt" {
            return true;
        }
        let path = uniform_escapes(path);
        let matching = self.rules.iter().filter(|it| matches(&it.pattern, &path));
        // Of two rules of the same length the one that allows counts.
        let strongest = matching.max_by_key(|rule| (rule.pattern.len(), rule.is_allowed));
        strongest.is_none_or(|rule| rule.is_allowed)
    }
}

/// Whether a path begins as the pattern says; `*` is any text, `$` the end.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, is_whole) = match pattern.strip_suffix('$') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = path.strip_prefix(first) else {
        return false;
    };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return !is_whole || rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if is_whole && pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        // The first place that fits leaves most for the pieces behind it.
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 9309, 5.1, and what it says to whom.
    const EXAMPLE: &str = "User-Agent: *\nDisallow: *.gif$\nDisallow: /example/\nAllow: /publications/\n\n\
        User-Agent: foobot\nDisallow:/\nAllow:/example/page.html\nAllow:/example/allowed.gif\n\n\
        User-Agent: barbot\nUser-Agent: bazbot\nDisallow: /example/page.html\n\nUser-Agent: quxbot\n\nEOF\n";

    #[test]
    fn the_example_of_the_standard_is_read_as_it_says() {
        let allows = |product: &str, path: &str| Robots::parse(EXAMPLE, product).allows(path);
        assert!(allows("other", "/publications/x"));
        assert!(!allows("other", "/example/page.html"));
        assert!(!allows("other", "/a.gif"));
        assert!(allows("other", "/a.gif?x"));
        assert!(allows("foobot", "/example/page.html"));
        assert!(allows("foobot", "/example/allowed.gif"));
        assert!(!allows("foobot", "/"));
        for product in ["barbot", "bazbot"] {
            assert!(!allows(product, "/example/page.html"));
            assert!(allows(product, "/example/other.html"));
        }
        assert!(allows("quxbot", "/example/page.html"));
    }

    #[test]
    fn the_longest_rule_decides_and_a_tie_allows() {
        let robots = Robots::parse(
            "user-agent: inglenook/2.0\nallow: /p\ndisallow: /\nallow: /page\ndisallow: /*.htm\n\
             disallow: /tie\nallow: /tie\ncrawl-delay: 2.5 # slowly\nsitemap: https://x.example/s.xml",
            "inglenook",
        );
        assert!(robots.allows("/page"));
        assert!(!robots.allows("/page.htm"));
        assert!(robots.allows("/tie"));
        assert!(!robots.allows("/other"));
        assert!(robots.allows("/robots.txt"));
        assert_eq!(robots.crawl_delay, Some(Duration::from_millis(2500)));
        assert_eq!(robots.sitemaps, ["https://x.example/s.xml"]);
    }

    #[test]
    fn escapes_and_ends_are_compared_as_they_are_meant() {
        let robots = Robots::parse(
            "User-agent: *\nDisallow: /caf%C3%A9\nDisallow: /%7ejoe\nDisallow: /a*b*c$\n",
            "inglenook",
        );
        for refused in [
            "/café",
            "/caf%c3%a9",
            "/~joe",
            "/%7Ejoe",
            "/abc",
            "/axxbyyc",
        ] {
            assert!(!robots.allows(refused), "{refused}");
        }
        for allowed in ["/cafe", "/abcd", "/ab"] {
            assert!(robots.allows(allowed), "{allowed}");
        }
        assert!(Robots::parse("<html>not found</html>", "inglenook").allows("/"));
        assert!(Robots::parse("disallow: /", "inglenook").allows("/x"));
    }
}
