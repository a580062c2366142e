# Third-party libraries, looked up once here, because imported targets are local to the directory
# that finds them while static rooms hand them on to every executable.
find_package(Threads REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(spdlog REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(JPEG REQUIRED)
find_package(PNG REQUIRED)
find_package(CLI11 REQUIRED)
find_package(LibZip REQUIRED)
find_package(Eigen3 REQUIRED NO_MODULE) # headers alone
