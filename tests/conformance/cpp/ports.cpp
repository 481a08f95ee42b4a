// The scenario of ports.

#include "conformance.hpp"

void conformance::ports() {
    const std::string server = "import socketserver as s, threading as t\n"
                               "class H(s.StreamRequestHandler):\n"
                               "    def handle(self): self.wfile.write(self.rfile.read()[::-1])\n"
                               "u = s.ThreadingUnixStreamServer('/tmp/reverser', H)\n"
                               "t.Thread(target=u.serve_forever, daemon=True).start()\n"
                               "s.ThreadingTCPServer(('127.0.0.1', 7300), H).serve_forever()\n";
    const auto is_reversed = [](const sandbox::descriptor &connection) {
        const std::string text = "desserts";
        CHECK(send(connection.get(), text.data(), text.size(), 0) == 8);
        CHECK(shutdown(connection.get(), SHUT_WR) == 0);
        std::array<char, 64> answer;
        std::string all;
        for (ssize_t size; (size = recv(connection.get(), answer.data(), answer.size(), 0)) != 0;) {
            CHECK(size > 0);
            all.append(answer.data(), static_cast<std::size_t>(size));
        }
        CHECK(all == "stressed");
    };
    const auto connected = [](std::uint16_t port) {
        sandbox::descriptor own(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address = {};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        const int result = ::connect(own.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address);
        return result == 0 ? std::move(own) : sandbox::descriptor(-1);
    };
    FAILS(timed_out_error, box().wait_for_port(7300, 50ms));
    FAILS(refused_error, box().connect(7300));
    const auto reverser = box().command("python3").add_args({"-c", server}).detach(unique("reverser"));
    box().wait_for_port(7300, 60s);
    box().wait_for_port("/tmp/reverser");
    is_reversed(box().connect(7300));
    is_reversed(box().connect("/tmp/reverser"));
    FAILS(file_not_found_error, box().connect("/no/such/socket"));

    const auto forward = box().forward(0, 7300);
    CHECK(forward.local() == "127.0.0.1:" + std::to_string(forward.port()));
    const auto open = connected(forward.port());
    is_reversed(connected(forward.port()));
    CHECK(open.get() >= 0 && forward.is_open() && forward.connections() >= 1 && !forward.last_failure());
    FAILS(busy_error, box().forward(forward.port(), 7300));
    const auto to_nobody = box().forward("127.0.0.1:0", "7301");
    char byte = 0;
    CHECK(recv(connected(to_nobody.port()).get(), &byte, 1, 0) == -1 && errno == ECONNRESET);
    CHECK(to_nobody.last_failure()->kind() == sandbox::error_kind::refused);
    forward.close();
    forward.wait();
    CHECK(!forward.is_open() && connected(forward.port()).get() == -1);
    reverser.kill();
    reverser.remove();
}
