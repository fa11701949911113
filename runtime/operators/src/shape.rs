//! Checks that several operators share.

use offshoot_base::{Rule, require};
use offshoot_format::record::{Window, WindowRepr};
use offshoot_kernels::geometry::window_output;

/// Checks that the feature `f32` is built, which float forms need.
pub(crate) fn require_f32() -> Result<(), Rule> {
    require(cfg!(feature = "f32"), Rule::Format)
}

/// Checks that every window covers at least one element of the input along every axis. An average over none is
/// undefined.
pub(crate) fn windows_touch(window: &WindowRepr, h: u16, w: u16) -> Result<(), Rule> {
    let (out_h, out_w) = window_output(window, h, w)?;
    let window = Window::from(*window);
    let touches = |axis: usize, outputs: u32, input: u16, before: u16| {
        let (kernel, dilation) = (u32::from(window.kernel[axis]), u32::from(window.dilation[axis]).max(1));
        (0..outputs).all(|o| {
            // Outputs fit in 16 bits, so the product fits in 32.
            let start = o * u32::from(window.stride[axis]);
            // First kernel position at or after the input's first element, and its position in the input.
            let (first, at) = match u32::from(before).checked_sub(start) {
                None => (0, start - u32::from(before)),
                Some(gap) => (gap.div_ceil(dilation), gap.next_multiple_of(dilation) - gap),
            };
            first < kernel && at < u32::from(input)
        })
    };
    let all = touches(0, out_h, h, window.pad[0]) && touches(1, out_w, w, window.pad[1]);
    require(all, Rule::Window)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel: u16, stride: u16, dilation: u16, pad: u16) -> WindowRepr {
        Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [dilation; 2], pad: [pad; 4] }.into()
    }

    #[test]
    fn windows_that_see_only_padding() {
        assert_eq!(windows_touch(&window(2, 1, 1, 1), 3, 3), Ok(()));
        assert_eq!(windows_touch(&window(2, 1, 1, 2), 3, 3), Err(Rule::Window));
        // Dilation 4 straddles an input of 3.
        assert_eq!(windows_touch(&window(2, 1, 4, 4), 3, 3), Err(Rule::Window));
    }
}
