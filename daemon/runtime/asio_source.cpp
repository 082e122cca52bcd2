// The one translation unit that holds the bodies of Asio and Beast (their "separate compilation").
#include <boost/asio/impl/src.hpp>
#include <boost/asio/ssl/impl/src.hpp>
#include <boost/beast/src.hpp>
