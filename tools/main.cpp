int main() { return 0; }  // until the commands link
