//! strftime_now, over the C library's clock, as Python's datetime.now().strftime is.

use std::ffi::{c_char, c_long};
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{Error, ErrorKind};

// `struct tm` of the C library, kept closed: 56 bytes on the systems known.
#[repr(C, align(8))]
struct Calendar([u8; 128]);

extern "C" {
    fn localtime_r(time: *const c_long, out: *mut Calendar) -> *mut Calendar;
    fn strftime(
        out: *mut c_char,
        size: usize,
        format: *const c_char,
        time: *const Calendar,
    ) -> usize;
    fn tzset();
}

pub fn strftime_now(format: &str) -> Result<String, Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format_time(format, now.as_secs() as c_long, now.subsec_micros())
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "strftime_now: bad format"))
}

fn format_time(format: &str, seconds: c_long, microseconds: u32) -> Option<String> {
    const SIZE: usize = 4096;
    if format.len() > 256 {
        return None;
    }
    // A trailing mark tells an empty result from one that did not fit. Python's own directives:
    // microseconds, and the zone, which a naive time has not.
    let mut text = String::with_capacity(format.len() + 8);
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        match (c, rest.clone().next()) {
            ('%', Some('f')) => text.push_str(&format!("{microseconds:06}")),
            ('%', Some('z' | 'Z')) => {}
            ('%', Some(next)) => text.extend(['%', next]),
            ('\0', _) => return None,
            (c, _) => {
                text.push(c);
                continue;
            }
        }
        rest.next();
    }
    text.push_str("|\0");
    let mut calendar = Calendar([0; 128]);
    let mut out = [0u8; SIZE];
    // SAFETY: `calendar` is larger than any struct tm, `text` ends with a nul, `out` has SIZE bytes.
    let (ok, len): (bool, usize) = unsafe {
        tzset();
        let ok = !localtime_r(&seconds, &mut calendar).is_null();
        let format = text.as_ptr().cast();
        (ok, if ok { strftime(out.as_mut_ptr().cast(), SIZE, format, &calendar) } else { 0 })
    };
    if !ok || len == 0 || len > SIZE {
        return None;
    }
    Some(String::from_utf8_lossy(&out[..len - 1]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::format_time;

    #[test]
    fn formats() {
        let day = 86400 * 365;
        assert_eq!(format_time("%Y", day * 30, 0).as_deref(), Some("1999"));
        assert_eq!(format_time("", day, 0).as_deref(), Some(""));
        assert_eq!(format_time("%f %% %Z", day, 42).as_deref(), Some("000042 % "));
        assert_eq!(format_time(&"%c".repeat(128), day, 0).is_some(), true);
        assert_eq!(format_time(&"%c".repeat(200), day, 0), None);
    }
}
