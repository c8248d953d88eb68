package main

// release is what the benchmark changes where one file is to be changed.
const release = "1"
