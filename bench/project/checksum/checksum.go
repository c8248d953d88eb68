// Package checksum is the part that needs a C compiler.
package checksum

// #include <stddef.h>
// #include <stdlib.h>
//
// static unsigned int adler32(const unsigned char *text, size_t length) {
// 	unsigned int low = 1, high = 0;
// 	for (size_t i = 0; i < length; i++) {
// 		low = (low + text[i]) % 65521;
// 		high = (high + low) % 65521;
// 	}
// 	return high << 16 | low;
// }
import "C"

import "unsafe"

// Of is the Adler-32 checksum of a text (RFC 1950).
func Of(text string) uint32 {
	start := C.CString(text)
	defer C.free(unsafe.Pointer(start))
	return uint32(C.adler32((*C.uchar)(unsafe.Pointer(start)), C.size_t(len(text))))
}
