//! The pure cores of overload control: no IO, no clock; `now` is an argument.
