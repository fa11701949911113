//! WAV files: PCM with 8, 16, 24 and 32 bits and 32-bit float, to mono float32 in -1..1.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// Samples per second.
    pub sample_rate: u32,
    /// Mean of the channels; full scale is ±1.
    pub samples: Vec<f32>,
}

/// Labelled sounds from a folder with one subfolder per class.
#[derive(Clone, Debug)]
pub struct Clips {
    /// Names of the subfolders, sorted; the index is the label.
    pub classes: Vec<String>,
    /// File, label and sound, by class and then by file name.
    pub clips: Vec<(PathBuf, i64, Clip)>,
}

/// Reads one file.
///
/// # Errors
/// The file cannot be read, is not a WAV file, is truncated, or holds compressed or non-finite samples.
pub fn read(path: &Path) -> Result<Clip> {
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, &e))?;
    parse(std::io::BufReader::new(file)).map_err(|e| e.at(path))
}

/// Reads a folder of class subfolders with WAV files. Skips hidden folders, folders that begin with `_` (such as the
/// background noise of Speech Commands), and other files.
///
/// # Errors
/// A folder or file cannot be read, or no class has a WAV file.
pub fn read_folder(path: &Path) -> Result<Clips> {
    let mut clips = Clips { classes: Vec::new(), clips: Vec::new() };
    for folder in sorted_entries(path)? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !folder.is_dir() || name.starts_with(['.', '_']) {
            continue;
        }
        let label = clips.classes.len() as i64;
        let files = sorted_entries(&folder)?;
        for file in files.into_iter().filter(|f| is_wav(f)) {
            let clip = read(&file)?;
            clips.clips.push((file, label, clip));
        }
        clips.classes.push(name);
    }
    if clips.clips.is_empty() {
        let message = "no WAV files found; expected one subfolder per class, with .wav files in it";
        return Err(Error::format(message).at(path));
    }
    Ok(clips)
}

fn is_wav(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("wav"))
}

/// Entries of a folder sorted by name, independent of the file system.
fn sorted_entries(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(path).map_err(|e| Error::io(path, &e))?;
    let mut entries = entries
        .map(|e| e.map(|e| e.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(|e| Error::io(path, &e))?;
    entries.sort();
    Ok(entries)
}

fn parse(reader: impl std::io::Read) -> Result<Clip> {
    let unusable =
        |e: hound::Error| Error::format(format!("not a usable WAV file ({e}): expected PCM or 32-bit float"));
    let mut reader = hound::WavReader::new(reader).map_err(unusable)?;
    let spec = reader.spec();
    if spec.channels == 0 || spec.sample_rate == 0 || !(1..=32).contains(&spec.bits_per_sample) {
        return Err(Error::format("a WAV file without channels, sample rate or bits"));
    }
    let interleaved: Vec<f32> = match spec.sample_format {
        hound::SampleFormat::Float => {
            reader.samples::<f32>().collect::<hound::Result<_>>().map_err(unusable)?
        }
        hound::SampleFormat::Int => {
            let full_scale = (1u64 << (spec.bits_per_sample - 1)) as f32;
            let scaled = reader.samples::<i32>().map(|s| s.map(|s| s as f32 / full_scale));
            scaled.collect::<hound::Result<_>>().map_err(unusable)?
        }
    };
    if interleaved.iter().any(|s| !s.is_finite()) {
        return Err(Error::format("it holds samples that are not finite numbers"));
    }
    let channels = usize::from(spec.channels);
    let samples = interleaved.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() / channels as f32);
    Ok(Clip { sample_rate: spec.sample_rate, samples: samples.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, bits: u16, format: hound::SampleFormat, frames: &[[f32; 2]]) {
        let spec =
            hound::WavSpec { channels: 2, sample_rate: 8000, bits_per_sample: bits, sample_format: format };
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        for &value in frames.iter().flatten() {
            match format {
                hound::SampleFormat::Float => writer.write_sample(value).unwrap(),
                hound::SampleFormat::Int => {
                    writer.write_sample((f64::from(value) * 2f64.powi(i32::from(bits) - 1)) as i32).unwrap()
                }
            }
        }
        writer.finalize().unwrap();
    }

    #[test]
    fn all_sample_formats_become_mono() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        let formats = [8, 16, 24, 32].map(|b| (b, hound::SampleFormat::Int));
        for (bits, format) in formats.into_iter().chain([(32, hound::SampleFormat::Float)]) {
            write(&path, bits, format, &[[0.5, 0.25], [-1.0, 0.0]]);
            let clip = read(&path).unwrap();
            assert_eq!(clip, Clip { sample_rate: 8000, samples: vec![0.375, -0.5] }, "{bits} bits");
        }
    }

    #[test]
    fn folders_are_classes_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for (class, file) in [("yes", "b.wav"), ("no", "z.WAV"), ("yes", "a.wav"), ("_noise", "n.wav")] {
            std::fs::create_dir_all(folder.path().join(class)).unwrap();
            write(&folder.path().join(class).join(file), 16, hound::SampleFormat::Int, &[[0.0, 0.0]]);
        }
        std::fs::write(folder.path().join("yes").join("readme.txt"), "x").unwrap();
        let clips = read_folder(folder.path()).unwrap();
        assert_eq!(clips.classes, ["no", "yes"]);
        let order: Vec<_> =
            clips.clips.iter().map(|(p, l, _)| (p.file_name().unwrap().to_str().unwrap(), *l)).collect();
        assert_eq!(order, [("z.WAV", 0), ("a.wav", 1), ("b.wav", 1)]);
        assert!(read_folder(&folder.path().join("yes")).unwrap_err().to_string().contains("subfolder"));
    }

    #[test]
    fn damaged_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        write(&path, 16, hound::SampleFormat::Int, &[[0.1, 0.2]; 4]);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..44 {
            for to in [0, 1, 255] {
                let mut damaged = whole.clone();
                damaged[at] = to;
                let _ = parse(damaged.as_slice());
            }
        }
    }
}
