# A formula for a tap of one's own: put it into Formula/ of a repository named homebrew-tap, with the URL and the SHA-256 of a
# release's archive; `brew install --HEAD` builds the newest commit without them.
class Tandem < Formula
  desc "Local inference server for language models, and its library"
  homepage "https://example.invalid/tandem"
  url "https://example.invalid/tandem/archive/v0.1.0.tar.gz"
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license "Apache-2.0"
  head "https://example.invalid/tandem.git", branch: "main"

  depends_on "cmake" => :build
  depends_on "ninja" => :build
  depends_on "pkgconf" => :build
  depends_on "rust" => :build
  depends_on "json-c"
  depends_on "libuv"
  depends_on "openssl@3"
  depends_on "pcre2"
  depends_on "sqlite"
  depends_on "utf8proc"
  depends_on "xxhash"

  uses_from_macos "curl"

  on_macos do
    depends_on "mlx" if Hardware::CPU.arm?
  end

  def install
    args = %w[-GNinja -DTANDEM_TEST_HOOKS=OFF -DCMAKE_INSTALL_LIBDIR=lib]
    system "cmake", "-S", ".", "-B", "build", *args, *std_cmake_args
    targets = %w[tandem tandem_shared tandem_static]
    targets << "tandem_mlx" if OS.mac? && Hardware::CPU.arm?
    system "cmake", "--build", "build", "--target", *targets
    system "cmake", "--install", "build"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/tandem version")
    (testpath/"test.c").write <<~C
      #include <tandem.h>
      #include <string.h>
      int main(void) { return strcmp(tandem_version(), "#{version}"); }
    C
    system ENV.cc, "test.c", "-I#{include}", "-L#{lib}", "-ltandem", "-o", "test"
    system "./test"
  end
end
