#pragma once
// What the parts of the Python module share: values from Python to Keel and back.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "core/impl.h"
#include "keel/error.h"
#include "keel/op.h"

namespace nb = nanobind;

namespace keel::python {

/// A dtype as a Python object; one object a dtype.
struct PyDType {
  DType type = DType::none;
};
nb::object dtype_object(DType t);
/// From a DType, a name, a NumPy dtype, or bool, int, float; None gives `none`.
DType to_dtype(nb::handle h);

bool is_number(nb::handle h);
Scalar to_scalar(nb::handle h);
/// A tensor, or a number as a weak tensor; false where `h` is neither.
bool to_operand(nb::handle h, Tensor& out);
/// A tensor from whatever can be one: a tensor, a number, nested lists, an array that speaks DLPack or the array interface.
Tensor to_tensor(nb::handle h, DType t = DType::none);
/// An int or a sequence of ints. An int fills as many entries as `out` has, at least one.
void to_dims(nb::handle h, Dims& out, const char* op, const char* name);
Shape to_shape(nb::handle h);
nb::tuple from_dims(const Dims& d);
/// None for an undefined tensor.
nb::object from_tensor(Tensor t);
nb::object from_scalar(const Scalar& s);
/// The element at `p` as bool, int, float or complex.
nb::object element(const void* p, DType t);
nb::object to_list(const Tensor& t);

Tensor get_item(const Tensor& x, nb::handle key);
void set_item(Tensor& x, nb::handle key, nb::handle value);

nb::object to_dlpack(const Tensor& t, nb::object max_version, nb::object dl_device, nb::object copy);
Tensor from_capsule(nb::object capsule);

void bind_dtypes(nb::module_& m);
void bind_errors(nb::module_& m);
void bind_tensor(nb::module_& m, nb::class_<Tensor>& c);
void bind_functions(nb::module_& m);
void bind_precision(nb::module_& m);
void bind_lint(nb::module_& m);
/// Every registered op, as a function of `m` and a method of `c`; and `registry()`, which tells the rows.
void bind_ops(nb::module_& m, nb::class_<Tensor>& c);

}  // namespace keel::python
