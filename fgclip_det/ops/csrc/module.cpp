#include <Python.h>

// Importing this empty module runs the TORCH_LIBRARY initialisers of the other files.
PyMODINIT_FUNC PyInit__C(void) {
  static struct PyModuleDef definition = {
      PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&definition);
}
