# Pictures of one class as JSON: 80 of 4 x 4 pixels, whose left (class 0) or right (class 1) half is bright.
# awk -v class=0 -f pictures.awk. Lehmer's generator keeps the bytes the same with every awk.
BEGIN {
  state = 1 + class
  printf "{\"data\": ["
  for (item = 0; item < 80; item++) {
    printf "%s[", item ? "," : ""
    for (pixel = 0; pixel < 16; pixel++) {
      state = (state * 48271) % 2147483647
      bright = (pixel % 4 < 2) == (class == 0)
      printf "%s%d", pixel ? "," : "", state % 60 + (bright ? 180 : 0)
    }
    printf "]"
  }
  print "]}"
}
