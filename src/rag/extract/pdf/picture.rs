//! A scanned page: whether one image fills it, and that image in a format that image readers know. Decodes what must
//! be decoded; what is compressed for images (JPEG, JPEG 2000, fax) goes on as it is.

use pdf_extract::{Dictionary, Document, Object, ObjectId, Stream};

use super::super::protocol::{Picture, Scan};
use super::font::{self, get};
use super::page::{PlacedImage, inherited_as};
use super::streams;

/// A page without text that shows `images`; `None` if they are too small to be a scan of one.
pub fn scan(
    document: &Document,
    page: ObjectId,
    images: &[PlacedImage<'_>],
    wants_picture: bool,
) -> Option<Scan> {
    let page = document.get_dictionary(page).ok()?;
    let (width, height) = size(document, page);
    let share = |image: &PlacedImage<'_>| {
        let [a, b, c, d, ..] = image.place.0;
        ((a * d - b * c) / (width * height)).abs()
    };
    let all: f64 = images.iter().map(share).sum();
    if all < MIN_SHARE {
        return None;
    }
    let mut large = images
        .iter()
        .filter(|image| share(image) > NEGLIGIBLE_SHARE);
    let picture = match (large.next(), large.next()) {
        (Some(image), None) if wants_picture && share(image) >= FULL_SHARE => {
            picture(document, page, image)
        }
        _ => None,
    };
    let failure = None;
    Some(Scan { picture, failure })
}

/// A smaller part of the page is a logo or a photograph, whose words nobody looks for.
const MIN_SHARE: f64 = 0.2;
/// Where one image is as large as this, nothing else on the page matters.
const FULL_SHARE: f64 = 0.6;
const NEGLIGIBLE_SHARE: f64 = 0.02;
/// Points of a page whose size is not said: A4.
const USUAL_SIZE: (f64, f64) = (595.0, 842.0);
/// An image with more pixels is not decoded here.
const MAX_PIXELS: u64 = 100_000_000;

fn size(document: &Document, page: &Dictionary) -> (f64, f64) {
    let corners = |key: &[u8]| {
        inherited_as(document, page, key, |found| {
            let corners = found.as_array().ok()?.iter();
            let corners: Vec<f64> = corners
                .filter_map(|it| font::number(document.dereference(it).ok()?.1))
                .collect();
            let [left, bottom, right, top] = corners[..] else {
                return None;
            };
            let size = ((right - left).abs(), (top - bottom).abs());
            (size.0 > 1.0 && size.1 > 1.0).then_some(size)
        })
    };
    corners(b"CropBox")
        .or_else(|| corners(b"MediaBox"))
        .unwrap_or(USUAL_SIZE)
}

fn picture(document: &Document, page: &Dictionary, image: &PlacedImage<'_>) -> Option<Picture> {
    let stream = image.stream?;
    let pixels = Pixels::of(document, &stream.dict)?;
    let bytes = encoded(document, stream, &pixels)?;
    let rotation = inherited_as(document, page, b"Rotate", |found| found.as_i64().ok());
    let [a, b, c, d, ..] = image.place.0;
    let is_small = |x: f64, y: f64| x.abs() < 0.02 * y.abs();
    let is_upright =
        rotation.unwrap_or(0) % 360 == 0 && a > 0.0 && d > 0.0 && is_small(b, a) && is_small(c, d);
    let inches = a.hypot(b) / 72.0;
    let dots_per_inch = (f64::from(pixels.width) / inches).round();
    Some(Picture {
        bytes,
        dots_per_inch: dots_per_inch.clamp(70.0, 2400.0) as u32,
        is_upright,
    })
}

/// What an image's dictionary says about its pixels.
struct Pixels {
    width: u32,
    height: u32,
    bits: u32,
    colors: Colors,
    /// The lowest value is shown as the brightest.
    is_inverted: bool,
}

enum Colors {
    Gray,
    Rgb,
    Cmyk,
    /// The brightness of each entry of a palette.
    Palette(Vec<u8>),
}

impl Pixels {
    fn of(document: &Document, image: &Dictionary) -> Option<Self> {
        let number = |key: &[u8]| get(document, image, key)?.as_i64().ok();
        let is_mask = get(document, image, b"ImageMask").and_then(|it| it.as_bool().ok());
        let width = u32::try_from(number(b"Width")?).ok()?;
        let height = u32::try_from(number(b"Height")?).ok()?;
        if width == 0 || height == 0 || u64::from(width) * u64::from(height) > MAX_PIXELS {
            return None;
        }
        let decode = get(document, image, b"Decode").and_then(|it| it.as_array().ok());
        let first = decode.and_then(|it| font::number(it.first()?));
        let is_mask = is_mask.unwrap_or(false);
        let colors = match get(document, image, b"ColorSpace") {
            _ if is_mask => Colors::Gray,
            Some(space) => colors(document, space, 0)?,
            None => Colors::Gray,
        };
        Some(Self {
            width,
            height,
            bits: match is_mask {
                true => 1,
                false => u32::try_from(number(b"BitsPerComponent").unwrap_or(8)).ok()?,
            },
            colors,
            is_inverted: first.is_some_and(|first| first > 0.0),
        })
    }
}

fn colors(document: &Document, space: &Object, depth: usize) -> Option<Colors> {
    const MAX_DEPTH: usize = 4;
    if depth > MAX_DEPTH {
        return None;
    }
    let inner = |object: &Object| colors(document, document.dereference(object).ok()?.1, depth + 1);
    let by_count = |count: i64| match count {
        1 => Some(Colors::Gray),
        3 => Some(Colors::Rgb),
        4 => Some(Colors::Cmyk),
        _ => None,
    };
    match space {
        Object::Name(name) => match name.as_slice() {
            b"DeviceGray" | b"CalGray" | b"G" => Some(Colors::Gray),
            b"DeviceRGB" | b"CalRGB" | b"RGB" => Some(Colors::Rgb),
            b"DeviceCMYK" | b"CMYK" => Some(Colors::Cmyk),
            _ => None,
        },
        Object::Array(parts) => match parts.first()?.as_name().ok()? {
            b"CalGray" | b"DeviceGray" => Some(Colors::Gray),
            b"CalRGB" | b"DeviceRGB" => Some(Colors::Rgb),
            b"ICCBased" => {
                let profile = document.dereference(parts.get(1)?).ok()?.1;
                by_count(
                    get(document, &profile.as_stream().ok()?.dict, b"N")?
                        .as_i64()
                        .ok()?,
                )
            }
            b"Indexed" | b"I" => {
                let base = inner(parts.get(1)?)?;
                let table = match document.dereference(parts.get(3)?).ok()?.1 {
                    Object::String(table, _) => table.clone(),
                    Object::Stream(stream) => streams::decoded(document, stream).ok()?,
                    _ => return None,
                };
                let entry = match base {
                    Colors::Gray => 1,
                    Colors::Rgb => 3,
                    Colors::Cmyk => 4,
                    Colors::Palette(_) => return None,
                };
                Some(Colors::Palette(
                    table.chunks_exact(entry).map(brightness).collect(),
                ))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Of one, three or four components.
fn brightness(color: &[u8]) -> u8 {
    let of_rgb = |r: u32, g: u32, b: u32| ((r * 299 + g * 587 + b * 114) / 1000) as u8;
    match *color {
        [gray] => gray,
        [r, g, b] => of_rgb(r.into(), g.into(), b.into()),
        [c, m, y, k] => {
            let part = |ink: u8| u32::from(255 - ink) * u32::from(255 - k) / 255;
            of_rgb(part(c), part(m), part(y))
        }
        _ => 255,
    }
}

/// The image as a file: JPEG, JPEG 2000, TIFF for fax, else a portable graymap.
fn encoded(document: &Document, stream: &Stream, pixels: &Pixels) -> Option<Vec<u8>> {
    let (bytes, last) = streams::decoded_to_image(document, stream).ok()?;
    match last {
        None => graymap(&bytes, pixels),
        Some((name, parameters)) => match name.as_slice() {
            b"DCTDecode" | b"DCT" if !pixels.is_inverted => Some(bytes),
            b"JPXDecode" => Some(bytes),
            b"CCITTFaxDecode" | b"CCF" => fax(document, bytes, parameters, pixels),
            _ => None,
        },
    }
}

/// Binary portable graymap (PGM), 8 bits a pixel.
fn graymap(bytes: &[u8], pixels: &Pixels) -> Option<Vec<u8>> {
    let (width, height) = (pixels.width as usize, pixels.height as usize);
    let num_components = match pixels.colors {
        Colors::Gray | Colors::Palette(_) => 1,
        Colors::Rgb => 3,
        Colors::Cmyk => 4,
    };
    let bits = pixels.bits as usize;
    if !matches!(bits, 1 | 2 | 4 | 8 | 16) {
        return None;
    }
    let row_bytes = (width * num_components * bits).div_ceil(8);
    let max = (1u32 << bits.min(8)) - 1;
    let mut out = format!("P5 {width} {height} 255\n").into_bytes();
    out.reserve(width * height);
    let mut color = Vec::with_capacity(num_components);
    for row in 0..height {
        // Rows that are missing at the end are white.
        let Some(row) = bytes.get(row * row_bytes..(row + 1) * row_bytes) else {
            out.resize(out.len() + width, 255);
            continue;
        };
        let value = |at: usize| match bits {
            8 => row[at],
            16 => row[at * 2],
            _ => (row[at * bits / 8] >> (8 - bits - at * bits % 8)) & max as u8,
        };
        for x in 0..width {
            let gray = match &pixels.colors {
                Colors::Palette(palette) => {
                    palette.get(usize::from(value(x))).copied().unwrap_or(255)
                }
                _ => {
                    color.clear();
                    let components = (0..num_components).map(|at| value(x * num_components + at));
                    color.extend(components.map(|it| (u32::from(it) * 255 / max) as u8));
                    brightness(&color)
                }
            };
            out.push(if pixels.is_inverted { 255 - gray } else { gray });
        }
    }
    Some(out)
}

/// Fax data in the TIFF file that they come from (TIFF 6.0, sections 10 and 11).
fn fax(
    document: &Document,
    data: Vec<u8>,
    parameters: Option<&Dictionary>,
    pixels: &Pixels,
) -> Option<Vec<u8>> {
    let parameter = |key: &[u8]| get(document, parameters?, key);
    let number = |key: &[u8]| parameter(key).and_then(|it| it.as_i64().ok());
    let is_on = |key: &[u8]| parameter(key).and_then(|it| it.as_bool().ok()) == Some(true);
    // Bytes of their own for each row are not what TIFF has.
    if is_on(b"EncodedByteAlign") {
        return None;
    }
    let columns = number(b"Columns").unwrap_or(1728);
    let width = u32::try_from(columns)
        .ok()
        .filter(|width| *width == pixels.width)?;
    let (compression, options) = match number(b"K").unwrap_or(0) {
        ..0 => (4, 0),
        0 => (3, 0),
        1.. => (3, 1),
    };
    let is_white_zero = is_on(b"BlackIs1") == pixels.is_inverted;
    const SHORT: u16 = 3;
    const LONG: u16 = 4;
    const NUM_ENTRIES: u16 = 9;
    let data_at = 8 + 2 + u32::from(NUM_ENTRIES) * 12 + 4;
    let num_bytes = u32::try_from(data.len()).ok()?;
    let options_tag = if compression == 4 { 293 } else { 292 };
    let mut out = b"II*\0\x08\0\0\0".to_vec();
    out.extend(NUM_ENTRIES.to_le_bytes());
    for (tag, kind, value) in [
        (256, LONG, width),
        (257, LONG, pixels.height),
        (258, SHORT, 1),
        (259, SHORT, compression),
        (262, SHORT, u32::from(!is_white_zero)),
        (273, LONG, data_at),
        (278, LONG, pixels.height),
        (279, LONG, num_bytes),
        (options_tag, LONG, options),
    ] {
        let tag: u16 = tag;
        out.extend(tag.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend(1u32.to_le_bytes());
        out.extend(value.to_le_bytes());
    }
    out.extend(0u32.to_le_bytes());
    out.extend(data);
    Some(out)
}
