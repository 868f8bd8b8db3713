package main

// plainUmask: Windows has none.
func plainUmask() {}
